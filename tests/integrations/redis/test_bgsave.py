"""Tests of the action redis.bgsave, against real servers; the contract suite does the rest."""

from __future__ import annotations

import asyncio

import pytest

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis.bgsave import Bgsave
from tests.integrations.redis.servers import one_cluster, target_of
from tests.integrations.support import acting
from tests.redis import redis_server


async def test_a_snapshot_that_is_young_enough_is_good() -> None:
    """After a save nothing is to be done, and the start of a server is not taken for one."""
    with redis_server() as server:
        target = target_of(server)
        assert not (await Bgsave().diff(target, acting())).empty
        server.tell("SAVE")
        assert (await Bgsave().diff(target, acting())).empty


async def test_it_is_done_when_the_snapshot_is_written() -> None:
    """While the child still writes the step is not done; afterwards the file is there."""
    with redis_server("--rdb-key-save-delay", "3000") as server:
        target = target_of(server)
        for number in range(100):
            server.tell("SET", str(number), "x")
        change = await Bgsave().diff(target, acting())
        await Bgsave().apply(target, change, acting())
        with pytest.raises(TemporaryError, match="being written"):
            await Bgsave().verify(target, change, acting())
        with pytest.raises(TemporaryError, match="being written"):
            await Bgsave().diff(target, acting())
        for _ in range(100):
            try:
                await Bgsave().verify(target, change, acting())
                break
            except TemporaryError:
                await asyncio.sleep(0.02)
        await Bgsave().verify(target, change, acting())
        assert (server.directory / "dump.rdb").stat().st_size > 0


async def test_a_snapshot_that_fails_is_a_failure() -> None:
    """A child that cannot write ends the step, whatever BGSAVE answered."""
    with redis_server("--dbfilename", "no.rdb") as server:
        server.directory.joinpath("no.rdb").mkdir()
        server.tell("SET", "a", "b")
        target = target_of(server)
        change = await Bgsave().diff(target, acting())
        await Bgsave().apply(target, change, acting())
        with pytest.raises(PermanentError, match="could not be written"):
            for _ in range(100):
                try:
                    await Bgsave().verify(target, change, acting())
                except TemporaryError:
                    await asyncio.sleep(0.02)


async def test_after_a_crash_an_older_snapshot_says_nothing() -> None:
    """Without a newer snapshot it is unknown whether one was asked for; doing it again is safe."""
    with redis_server() as server:
        change = await Bgsave().diff(target_of(server), acting())
        assert await Bgsave().reconcile(target_of(server), change, acting()) is Happened.UNKNOWN


async def test_a_cluster_needs_a_node() -> None:
    """In a cluster it must be said which node; a node that is none is refused."""
    cluster = one_cluster()
    with pytest.raises(PermanentError, match="which node"):
        await Bgsave().diff(cluster.target(), acting())
    with pytest.raises(PermanentError, match="no node"):
        await Bgsave(node="127.0.0.1:1").diff(cluster.target(), acting())
    node = f"127.0.0.1:{cluster.nodes[0].port}"
    assert not (await Bgsave.model_validate({"node": node, "max_age": "1s"}).diff(cluster.target(), acting())).empty
