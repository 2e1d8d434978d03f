"""A real PostgreSQL for tests: its own cluster in a temporary folder, on loopback, durable, ended by its process id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.servers import STOP_SECONDS, free_port, freeze, program

PASSWORD = "for tests on loopback"
_USER = "postgres"
"""Debian's user of the server, which refuses to run as root; anybody else runs it as who they are."""


def _binary(name: str) -> str:
    # Debian keeps the programs of each version in a folder of its own.
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else program(name)


START_SECONDS = 90.0
"""After a crash every file is flushed first, which takes long on a busy disk."""


class Postgres:
    """One server. ``url(...)`` is what a store is given; ``superuser`` is who makes databases and roles."""

    def __init__(self) -> None:
        self._user = _USER if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="remediator-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._secret = self.folder / "password"
        self._secret.write_text(PASSWORD)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self.folder, self._secret):
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def url(self, database: str = "postgres", *, user: str = "superuser", password: str = PASSWORD) -> str:
        """The address of a database as somebody; without ``password`` it must come from elsewhere."""
        secret = f":{password.replace(' ', '%20')}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make the cluster."""
        command: list[str | Path] = [_binary("initdb"), "-D", self.data, "-U", "superuser", "--pwfile", self._secret]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            command, user=self._user, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        """Start the server and return once it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 100,
            "max_locks_per_transaction": 10,  # a small one, so that a store which takes very many locks is found out
            "timezone": "UTC",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [_binary("postgres"), "-D", self.data, *flags],
                user=self._user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait_ready(self._process)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        command = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while time.monotonic() < deadline:
            assert process.poll() is None, f"postgres ended with {process.returncode}\n{self.log_tail()}"
            if subprocess.run(command, check=False).returncode == 0:
                return
            time.sleep(0.02)
        raise AssertionError(f"postgres does not answer after {START_SECONDS} s\n{self.log_tail()}")

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of what the server printed."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the server's first process."""
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop every process of the server where it stands, as a dying disk or host does."""
        self._tell_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._tell_all(signal.SIGCONT)

    def _tell_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # A session that has just ended.
                if number is signal.SIGSTOP:
                    freeze(pid)
                else:
                    os.kill(pid, number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT is its fast shutdown, SIGQUIT its immediate one (a crash, as pg_ctl -m immediate)."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(STOP_SECONDS)

    def remove(self) -> None:
        """End the server and forget its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def execute(self, *statements: str, url: str = "") -> None:
        """Run statements, each in its own transaction."""
        connection = await asyncpg.connect(url or self.url())
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def fetch(self, query: str, *values: Any, url: str = "") -> list[Any]:
        """The rows of a query."""
        connection = await asyncpg.connect(url or self.url())
        try:
            rows: list[Any] = await connection.fetch(query, *values)
        finally:
            await connection.close()
        return rows


_running: list[Postgres] = []
"""The server that all test modules of one session share; each module has its own fixture for it."""


@pytest.fixture(scope="session")
def postgres(no_process_is_left_behind: None) -> Iterator[Postgres]:
    """A PostgreSQL server for the whole session; whoever stops it starts it again."""
    if _running:
        yield _running[0]
        return
    server = Postgres()
    try:
        server.make()
        server.start()
        # What every new database of the tests begins as.
        asyncio.run(server.execute("CREATE ROLE owner LOGIN PASSWORD 'owner'", "CREATE ROLE app LOGIN PASSWORD 'app'"))
        _running.append(server)
        yield server
    finally:
        _running.clear()
        server.remove()
