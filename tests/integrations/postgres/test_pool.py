"""Tests of the probe postgres.pool, against a real server and a real PgBouncer."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import asyncpg
import pytest

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres.pool import Pool
from remediator.integrations.postgres.size import Size
from tests.integrations.postgres.servers import client, one_postgres, pgbouncer, target_of
from tests.integrations.support import looking
from tests.servers import free_port


async def test_how_many_connections_are_left() -> None:
    """Used, usable (without those kept for superusers) and their share."""
    server = one_postgres()
    async with client(server, "one"), client(server, "two"):
        found = (await Pool().read(target_of(server), looking()))["server"]
    assert found["maximum"] == 100
    assert found["usable"] == 97
    assert found["used"] >= 3
    assert found["share"] == round(found["used"] / 97, 4)


async def test_t8_the_pooler_is_asked_and_never_restarted() -> None:
    """Trap T8: SHOW POOLS tells who waits; the process and its clients live on, and no action of ours restarts it."""
    server = one_postgres()
    with pgbouncer(server) as (port, password):
        target = target_of(
            server,
            pgbouncer={"host": "127.0.0.1", "port": port, "user": "stats", "password_file": str(password)},
        )
        url = f"postgresql://app:app@127.0.0.1:{port}/payment"
        first = await asyncpg.connect(url, statement_cache_size=0)
        second = await asyncpg.connect(url, statement_cache_size=0)
        try:
            await first.execute("BEGIN")
            waiting = asyncio.create_task(second.execute("SELECT 1"))
            await asyncio.sleep(0.2)
            found = (await Pool().read(target, looking()))["pgbouncer"]
            assert found["waiting"] == 1
            assert found["longest_wait_seconds"] >= 0
            (pool,) = found["pools"]
            assert (pool["database"], pool["user"], pool["mode"]) == ("payment", "app", "transaction")
            assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (1, 1, 1)
            await first.execute("COMMIT")  # the same clients go on: nobody was thrown out
            await waiting
        finally:
            await first.close()
            await second.close()
    folder = Path(__file__).parents[3] / "remediator/integrations/postgres"
    sent = [line for path in folder.glob("*.py") for line in path.read_text().splitlines() if '"--command"' in line]
    assert all('"SHOW POOLS"' in line for line in sent)


async def test_looks_work_through_a_pooler_too() -> None:
    """A target may itself be a PgBouncer that hands out servers by transaction."""
    server = one_postgres()
    with pgbouncer(server) as (port, _):
        secret = server.folder / "password-app"
        secret.write_text("app")
        target = target_of(server, port=port, user="app", password_file=str(secret))
        for _ in range(3):
            assert (await Size().read(target, looking()))["bytes"] > 0


async def test_a_pooler_that_refuses_is_not_there_or_hangs(tmp_path: Path) -> None:
    """Wrong credentials are permanent, no pooler is temporary, a hung one ends in time; no secret is told."""
    server = one_postgres()
    wrong = tmp_path / "wrong"
    wrong.write_text("canary-wrong")
    with pgbouncer(server) as (port, _):
        place = {"host": "127.0.0.1", "port": port, "user": "stats", "password_file": str(wrong)}
        with pytest.raises(PermanentError) as caught:
            await Pool().read(target_of(server, pgbouncer=place), looking())
        assert caught.value.reason == "credentials"
        assert "canary" not in str(caught.value)
    with pytest.raises(TemporaryError):
        await Pool().read(target_of(server, pgbouncer={**place, "port": free_port()}), looking())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        place["port"] = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(TemporaryError, match="had not ended"):
            await Pool().read(target_of(server, pgbouncer=place, timeout="500ms"), looking())
        assert time.monotonic() - began < 2.5
