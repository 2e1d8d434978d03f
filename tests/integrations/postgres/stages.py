"""The stages of postgres actions for the contract suite."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.postgres.cancel_backends import CancelBackends
from remediator.integrations.postgres.dump import Dump
from remediator.integrations.postgres.execute import Execute
from remediator.integrations.postgres.terminate_backends import TerminateBackends
from remediator.integrations.postgres.update_row import UpdateRow
from remediator.integrations.postgres.verify_dump import VerifyDump
from tests.integrations.arrangements import Stage
from tests.integrations.postgres.servers import PERMIT, backends, client, one_postgres, sql, target_of
from tests.servers import program

_STAGE_ONLY = {**PERMIT, "applications": ["stage-*"]}


@asynccontextmanager
async def postgres_terminate_backends(directory: Path) -> AsyncIterator[Stage]:
    """A client that sleeps in a transaction."""
    server = one_postgres()
    async with client(server, "stage-idle") as connection:
        await connection.execute("BEGIN")
        action = TerminateBackends.model_validate(
            {"application": "stage-idle", "state": "idle in transaction", "older_than": "1ms", "max": 5}
        )
        yield Stage(
            action=action,
            target=target_of(server, user="quick", permit=_STAGE_ONLY),
            effects=lambda: 1 - backends(server, "stage-idle"),
            converges=True,
        )


@asynccontextmanager
async def postgres_cancel_backends(directory: Path) -> AsyncIterator[Stage]:
    """A client whose query takes a minute."""
    server = one_postgres()
    async with client(server, "stage-slow", statement="SELECT pg_sleep(60)"):
        action = CancelBackends.model_validate({"application": "stage-slow", "older_than": "1ms", "max": 5})
        running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stage-slow' AND state = 'active'"
        yield Stage(
            action=action,
            target=target_of(server, user="quick", permit=_STAGE_ONLY),
            effects=lambda: 1 - int(sql(server, running)),
            converges=True,
        )


@asynccontextmanager
async def postgres_update_row(directory: Path) -> AsyncIterator[Stage]:
    """A breaker that has been open for long."""
    server = one_postgres()
    sql(server, "DELETE FROM circuit_breaker_state")
    sql(server, "INSERT INTO circuit_breaker_state VALUES ('mint', 'open', 7, now() - interval '1h', NULL)")
    action = UpdateRow.model_validate(
        {"row": "breaker", "key": "mint", "set": {"state": "closed", "failure_count": 0}, "only_if": {"state": "open"}}
    )
    closed = "SELECT count(*) FROM circuit_breaker_state WHERE state = 'closed' AND failure_count = 0"
    yield Stage(
        action=action, target=target_of(server, user="quick"), effects=lambda: int(sql(server, closed)), converges=True
    )


@asynccontextmanager
async def postgres_execute(directory: Path) -> AsyncIterator[Stage]:
    """A statement that adds a row."""
    server = one_postgres()
    sql(server, "DELETE FROM notes")
    action = Execute(statement="put-note", parameters={"id": 1, "text": "hello"})
    yield Stage(
        action=action,
        target=target_of(server, user="quick"),
        effects=lambda: int(sql(server, "SELECT count(*) FROM notes")),
        converges=False,
    )


@asynccontextmanager
async def postgres_dump(directory: Path) -> AsyncIterator[Stage]:
    """A folder that is to hold a dump."""
    yield Stage(
        action=Dump(dumps="nightly"),
        target=target_of(one_postgres(), directory, user="quick"),
        effects=lambda: len(list(directory.glob("*.dump"))),
        converges=True,
    )


@asynccontextmanager
async def postgres_verify_dump(directory: Path) -> AsyncIterator[Stage]:
    """A dump that nobody has checked yet."""
    server = one_postgres()
    argv = [program("pg_dump"), "-Fc", "-f", str(directory / "a.dump"), server.url("payment")]
    subprocess.run(argv, check=True, timeout=30)
    yield Stage(
        action=VerifyDump(dumps="nightly"),
        target=target_of(server, directory, user="quick"),
        effects=lambda: len(list(directory.glob("*.verified"))),
        converges=True,
    )


STAGES = {
    "postgres.cancel_backends": postgres_cancel_backends,
    "postgres.dump": postgres_dump,
    "postgres.execute": postgres_execute,
    "postgres.terminate_backends": postgres_terminate_backends,
    "postgres.update_row": postgres_update_row,
    "postgres.verify_dump": postgres_verify_dump,
}
