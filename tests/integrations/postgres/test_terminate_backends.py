"""Tests of the action postgres.terminate_backends, against a real server with replication and backups under way."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.postgres.terminate_backends import TerminateBackends
from tests.integrations.corpus import PAYLOADS
from tests.integrations.postgres.servers import backends, client, one_postgres, sql, target_of
from tests.integrations.support import acting
from tests.postgres import PASSWORD, Postgres, _binary


def _action(**more: Any) -> TerminateBackends:
    base = {"application": "*", "state": "active", "older_than": "1ms", "max": 100}
    return TerminateBackends.model_validate({**base, **more})


@contextmanager
def _program(server: Postgres, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of PostgreSQL's own programs, connected as the superuser."""
    folder = Path(tempfile.mkdtemp(prefix="remediator-wal-"))
    environment = {
        "PATH": os.environ["PATH"], "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "superuser",
        "PGPASSWORD": PASSWORD,
    }  # fmt: skip
    process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder)


async def _until(server: Postgres, query: str) -> None:
    for _ in range(200):
        if sql(server, query) != "0":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(query)


async def test_t13_replication_backups_and_the_server_itself_are_never_touched() -> None:
    """Trap T13: a walsender, a running pg_dump, a COPY under another name and background processes are left alone."""
    server = one_postgres()
    sql(server, "CREATE TABLE IF NOT EXISTS locked (id int); INSERT INTO locked VALUES (1)")
    copying = "COPY (SELECT pg_sleep(60)) TO STDOUT"
    with _program(server, _binary("pg_receivewal"), "-D", "."):
        async with client(server, "holder", user="superuser") as holder:
            await holder.execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
            with (
                _program(server, _binary("pg_dump"), "-Fc", "-f", "x", "-d", "payment"),
                _program(server, "psql", "-X", "-d", "payment", "-c", copying),
            ):
                await _until(server, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")
                await _until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'")
                await _until(server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT pg_sleep%'")
                async with client(server, "victim", statement="SELECT pg_sleep(60)"):
                    change = await _action().diff(target_of(server), acting())
                    assert [backend["application"] for backend in change.before["backends"]] == ["victim"]
                    everyone = await _action(state="idle in transaction").diff(
                        target_of(server, user="superuser"), acting()
                    )
                    assert {backend["application"] for backend in everyone.before["backends"]} == {"holder"}
                    await _action().apply(target_of(server), change, acting())
                    assert sql(server, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == "1"
                    assert backends(server, "pg_dump") == 1


async def test_at_most_so_many_and_the_oldest_first() -> None:
    """Of three the two that have waited longest are ended, and the change says how many there were."""
    server = one_postgres()
    action = _action(application="many-*", state="idle in transaction", max=2)
    async with client(server, "many-1") as one, client(server, "many-2") as two, client(server, "many-3") as three:
        for each in (two, one, three):
            await each.execute("BEGIN")
        change = await action.diff(target_of(server), acting())
        assert [backend["application"] for backend in change.before["backends"]] == ["many-2", "many-1"]
        assert change.volatile["matching"] == 3
        outcome = await action.apply(target_of(server), change, acting())
        assert len(outcome.data["told"]) == 2
        assert (backends(server, "many-3"), backends(server, "many-1")) == (1, 0)


async def test_who_has_moved_on_is_left_alone() -> None:
    """A connection that does something else by now, and a new one with its process id, are not what was shown."""
    server = one_postgres()
    action = _action(application="mover", state="idle in transaction")
    async with client(server, "mover") as mover:
        await mover.execute("BEGIN")
        change = await action.diff(target_of(server), acting())
        await mover.execute("COMMIT")
        await mover.execute("BEGIN")
        outcome = await action.apply(target_of(server), change, acting())
        assert outcome.data == {"told": [], "listed": 1}
        await action.verify(target_of(server), change, acting())
        assert await mover.fetchval("SELECT 1") == 1
        (backend,) = (await action.diff(target_of(server), acting())).before["backends"]
        other = change.as_json() | {"before": {"backends": [{**backend, "started": "2020-01-01T00:00:00+00:00"}]}}
        await action.apply(target_of(server), type(change).from_json(other), acting())
        assert await mover.fetchval("SELECT 1") == 1


async def test_age_state_and_role_narrow_it() -> None:
    """Younger ones, other states and other roles do not match."""
    server = one_postgres()
    target = target_of(server)
    async with client(server, "narrow") as connection:
        await connection.execute("BEGIN")
        for more in ({"older_than": "1h"}, {"state": "active"}, {"user": "somebody"}, {"application": "narro"}):
            action = _action(**{"application": "narrow", "state": "idle in transaction", **more})
            assert (await action.diff(target, acting())).empty
        named = _action(application="narrow", state="idle in transaction", user="app")
        assert not (await named.diff(target, acting())).empty


async def test_superusers_are_not_stopped_by_others() -> None:
    """Where the role may not stop one of them, nothing is begun at all."""
    server = one_postgres()
    async with client(server, "root-session", user="superuser") as connection:
        await connection.execute("BEGIN")
        with pytest.raises(PermanentError, match="leave superusers alone"):
            await _action(application="root-*", state="idle in transaction").diff(target_of(server), acting())


async def test_a_crash_is_decided_by_looking() -> None:
    """All still there: it did not happen; none: it did; some: nobody knows."""
    server = one_postgres()
    target = target_of(server)
    action = _action(application="crash-*", state="idle in transaction")
    async with client(server, "crash-1") as one, client(server, "crash-2") as two:
        await one.execute("BEGIN")
        await two.execute("BEGIN")
        change = await action.diff(target, acting())
        assert await action.reconcile(target, change, acting()) is Happened.NO
        with pytest.raises(TemporaryError, match="2 of the backends"):
            await action.verify(target, change, acting())
        await one.execute("COMMIT")
        assert await action.reconcile(target, change, acting()) is Happened.UNKNOWN
        await two.execute("COMMIT")
        assert await action.reconcile(target, change, acting()) is Happened.YES


async def test_an_error_half_way_is_unknown() -> None:
    """When the server refuses in the middle, some may have been ended: neither word of certainty is used."""
    server = one_postgres()
    action = _action(application="half", state="idle in transaction")
    async with client(server, "half") as connection:
        await connection.execute("BEGIN")
        change = await action.diff(target_of(server), acting())
        with pytest.raises(Unanswered):
            sql(server, "REVOKE pg_signal_backend FROM remediator")
            try:
                await action.apply(target_of(server), change, acting())
            finally:
                sql(server, "GRANT pg_signal_backend TO remediator")


@pytest.mark.parametrize(
    "wrong", [{"max": 0}, {"older_than": "0s"}, {"state": "any"}, {"application": ""}, {"application": "a\nb"}]
)
def test_nobody_asks_for_everything_by_accident(wrong: dict[str, Any]) -> None:
    """No number, no age, no state and no application are refused when the rule is loaded."""
    with pytest.raises(ValidationError):
        _action(**wrong)


async def test_no_text_gets_past_an_application() -> None:
    """A hostile text is an application_name that nobody has, and ends nobody; the same for a role."""
    server = one_postgres()
    target = target_of(server, user="quick")
    asked = 0
    async with client(server, "innocent") as connection:
        await connection.execute("BEGIN")
        for payload in PAYLOADS[::9]:
            for where in ({"application": payload.replace("*", "+")}, {"application": "innocent", "user": payload}):
                try:
                    action = _action(**where, state="idle in transaction")
                except ValidationError:
                    continue
                assert (await action.diff(target, acting())).empty
                asked += 1
    assert asked > 30
