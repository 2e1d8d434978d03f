"""Tests of the probe redis.persistence, against real servers."""

from __future__ import annotations

import asyncio
import time

from remediator.integrations.redis.persistence import Persistence
from tests.integrations.redis.servers import target_of
from tests.integrations.support import looking
from tests.redis import redis_server


async def test_what_was_saved_when() -> None:
    """The age of the snapshot by the server's clock, unsaved changes, and no word about a file that is not written."""
    with redis_server() as server:
        server.tell("SET", "a", "b")
        evidence = await Persistence().read(target_of(server), looking())
        assert evidence["changes_since_save"] == 1
        assert abs(evidence["last_save"] + evidence["last_save_seconds"] - time.time()) < 5
        assert (evidence["last_save_ok"], evidence["saving"], evidence["loading"], evidence["aof"]) == (
            True, False, False, False,
        )  # fmt: skip
        assert "aof_ok" not in evidence


async def test_an_append_only_file_that_is_written() -> None:
    """With an append-only file its state is told."""
    with redis_server("--appendonly", "yes") as server:
        assert (await Persistence().read(target_of(server), looking()))["aof_ok"] is True


async def test_a_snapshot_that_failed_is_told() -> None:
    """A folder that cannot be written to shows as a failed save."""
    with redis_server("--dbfilename", "no.rdb") as server:
        server.directory.joinpath("no.rdb").mkdir()
        server.tell("SET", "a", "b")
        server.tell("BGSAVE")
        evidence = {}
        for _ in range(100):
            evidence = dict(await Persistence().read(target_of(server), looking()))
            if not evidence["last_save_ok"]:
                break
            await asyncio.sleep(0.02)
        assert evidence["last_save_ok"] is False
