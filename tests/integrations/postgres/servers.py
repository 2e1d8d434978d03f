"""A real PostgreSQL with what the runbooks speak of, and a PgBouncer before it, for tests of the integration."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from remediator.integrations.postgres.target import PostgresTarget
from tests.integrations.shared import shared
from tests.postgres import PASSWORD, Postgres
from tests.servers import free_port, program

SETUP = """
CREATE ROLE remediator LOGIN PASSWORD 'canary-remediator' IN ROLE pg_monitor, pg_signal_backend;
CREATE ROLE quick LOGIN IN ROLE pg_monitor, pg_signal_backend, pg_read_all_data;
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE nobody LOGIN PASSWORD 'nobody';
CREATE DATABASE payment;
\\connect payment
CREATE TABLE circuit_breaker_state (
    trigger_id text PRIMARY KEY, state text NOT NULL, failure_count int NOT NULL, last_failure_at timestamptz, note text
);
CREATE TABLE processed_events (id bigserial PRIMARY KEY, processed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE generated_cards (card_number text, cvv text, expiry_date text);
INSERT INTO generated_cards VALUES ('4111 1111 1111 1111', '737', '12/29');
CREATE TABLE notes (id int PRIMARY KEY, text text);
CREATE TABLE pairs (id int, value text);
INSERT INTO pairs VALUES (1, 'a'), (1, 'b');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO remediator, app, quick;
GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA public TO remediator;
"""
PERMIT = {
    "actions": [
        "postgres.activity", "postgres.pool", "postgres.query", "postgres.replication", "postgres.size",
        "postgres.terminate_backends", "postgres.cancel_backends", "postgres.update_row", "postgres.execute",
        "postgres.dump", "postgres.verify_dump",
    ],
    "applications": ["*"],
    "statements": ["*"],
    "rows": ["*"],
    "dumps": ["*"],
}  # fmt: skip
STATEMENTS: dict[str, Any] = {
    "recent-events": {
        "sql": "SELECT count(*) AS events FROM processed_events "
        "WHERE processed_at > now() - make_interval(mins => $1::int)",
        "parameters": [{"name": "minutes", "type": "integer", "minimum": 1, "maximum": 1440, "default": 5}],
    },
    "cards": {"sql": "SELECT * FROM generated_cards", "hide": ["cvv"]},
    "many": {
        "sql": "SELECT generate_series(1, $1::int) AS n",
        "max_rows": 3,
        "parameters": [{"name": "n", "type": "integer"}],
    },
    "echo": {"sql": "SELECT $1::text AS said", "parameters": [{"name": "text"}]},
    "slow": {"sql": "SELECT pg_sleep(30)", "timeout": "300ms"},
    "sneaky": {"sql": "DELETE FROM notes"},
    "put-note": {
        "sql": "INSERT INTO notes VALUES ($1::int, $2::text)",
        "changes": True,
        "max_rows": 2,
        "parameters": [{"name": "id", "type": "integer"}, {"name": "text"}],
        "undo": "drop-note",
    },
    "drop-note": {
        "sql": "DELETE FROM notes WHERE id = $1::int",
        "changes": True,
        "parameters": [{"name": "id", "type": "integer"}],
    },
    "drop-notes": {"sql": "DELETE FROM notes", "changes": True, "max_rows": 2, "effect": "idempotent"},
}  # fmt: skip
ROWS: dict[str, Any] = {
    "breaker": {
        "table": "public.circuit_breaker_state",
        "key": "trigger_id",
        "columns": {"state": ["open", "half-open", "closed"], "failure_count": [], "note": []},
        "wait": {"column": "last_failure_at", "age": "1m"},
    },
    "pair": {"table": "pairs", "key": "id", "columns": {"value": []}},
    "note": {"table": "notes", "key": "id", "columns": {"text": []}},
}


def _make() -> Postgres:
    server = Postgres()
    try:
        server.make()
        # Hundreds of connections, each of which would take longer to prove its password than to do all the rest.
        rules = server.data / "pg_hba.conf"
        rules.write_text("host payment quick 127.0.0.1/32 trust\n" + rules.read_text())
        server.start()
        sql(server, SETUP, database="postgres")
    except BaseException:
        server.remove()
        raise
    return server


def one_postgres() -> Postgres:
    """The server that tests share which leave it running."""
    return shared("postgres", _make, Postgres.remove)


def sql(server: Postgres, text: str, *, database: str = "payment") -> str:
    """Run a script as the superuser and return what psql printed."""
    argv = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", server.url(database)]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def settings(server: Postgres, directory: Path | None = None, *, user: str = "remediator") -> dict[str, Any]:
    """The target's settings; with ``directory`` for its password file and dumps."""
    found: dict[str, Any] = {
        "host": "127.0.0.1", "port": server.port, "database": "payment", "user": user, "timeout": "5s",
        "permit": PERMIT, "statements": STATEMENTS, "rows": ROWS,
    }  # fmt: skip
    secret = server.folder / f"password-{user}"
    secret.write_text({"remediator": "canary-remediator", "superuser": PASSWORD}.get(user, user))
    found["password_file"] = str(secret)
    if directory is not None:
        found["dumps"] = {"nightly": {"directory": str(directory), "min_free": "1MiB", "timeout": "30s"}}
    return found


def target_of(
    server: Postgres, directory: Path | None = None, *, user: str = "remediator", **more: Any
) -> PostgresTarget:
    """The database ``payment`` as a target that permits what the tests do."""
    return PostgresTarget.model_validate({**settings(server, directory, user=user), **more})


@asynccontextmanager
async def client(server: Postgres, application: str, *, user: str = "app", statement: str = "") -> AsyncIterator[Any]:
    """A connection of an application; it is in the middle of ``statement`` if there is one."""
    connection = await asyncpg.connect(
        server.url("payment", user=user, password=PASSWORD if user == "superuser" else user),
        server_settings={"application_name": application},
    )
    running = asyncio.ensure_future(connection.execute(statement)) if statement else None
    try:
        if running is not None:
            await asyncio.wait({running}, timeout=0.1)
        yield connection
    finally:
        pid = connection.get_server_pid()
        connection.terminate()
        # A server that is busy does not notice that its client is gone.
        await asyncio.to_thread(sql, server, _END.format(pid))
        if running is not None:
            await asyncio.wait({running}, timeout=5)
            running.cancelled() or running.exception()


_END = """
SELECT pg_terminate_backend({0}, 5000) WHERE EXISTS (SELECT FROM pg_stat_activity WHERE pid = {0})
"""


def backends(server: Postgres, application: str) -> int:
    """How many backends of that application there are."""
    return int(sql(server, f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'"))


@contextmanager
def pgbouncer(server: Postgres) -> Iterator[tuple[int, Path]]:
    """A PgBouncer before the server; its port and the file with the password of its user ``stats``."""
    folder = Path(tempfile.mkdtemp(prefix="remediator-pgbouncer-"))
    port = free_port()
    folder.joinpath("users").write_text('"stats" "canary-stats"\n"app" "app"\n')
    folder.joinpath("password").write_text("canary-stats")
    folder.joinpath("ini").write_text(
        f"[databases]\npayment = host=127.0.0.1 port={server.port} dbname=payment\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {folder}/users\nstats_users = stats\npool_mode = transaction\ndefault_pool_size = 1\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    os.chmod(folder, 0o755)
    with folder.joinpath("log").open("wb") as output:
        process = subprocess.Popen(
            [program("pgbouncer"), str(folder / "ini")],
            user="postgres" if os.geteuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(port, process, folder / "log")
        yield port, folder / "password"
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
        shutil.rmtree(folder)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())
