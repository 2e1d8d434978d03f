"""Tests of the action redis.cluster_failover, against real clusters of six nodes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from remediator.action import Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis.cluster_failover import ClusterFailover
from remediator.integrations.redis.ping import Ping
from tests.integrations.redis.servers import Cluster, make_cluster, one_cluster, one_server, target_of
from tests.integrations.support import acting, looking


async def _verified(action: ClusterFailover, target: Any, change: Change) -> None:
    for _ in range(200):
        try:
            await action.verify(target, change, acting())
            return
        except TemporaryError:
            await asyncio.sleep(0.05)
    await action.verify(target, change, acting())


@pytest.fixture
def cluster() -> Cluster:
    """The shared cluster, in good health."""
    found = one_cluster()
    found.wait_ok()
    return found


async def test_over_and_back(cluster: Cluster) -> None:
    """The replica takes over and is seen to serve; the way back is refused once somebody else moved it."""
    target = cluster.target()
    action = ClusterFailover(node=cluster.replica())
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    assert await action.reconcile(target, change, acting()) is Happened.NO
    await action.apply(target, change, acting())
    await _verified(action, target, change)
    assert await action.reconcile(target, change, acting()) is Happened.YES
    assert (await action.diff(target, acting())).empty
    inverse = action.inverse(change)
    assert inverse is not None
    back = ClusterFailover.model_validate(inverse.model_dump(mode="json", by_alias=True, exclude_unset=True))
    await asyncio.to_thread(cluster.wait_ok)
    there = change
    for _ in range(100):  # the former primary has to become a replica first
        try:
            there = await back.diff(target, acting())
            if not there.empty:
                break
        except (TemporaryError, PermanentError):
            pass
        await asyncio.sleep(0.05)
    with pytest.raises(PermanentError) as caught:
        await back.model_copy(update={"only_from": "127.0.0.1:1"}).diff(target, acting())
    assert caught.value.reason == "changed"
    await back.apply(target, there, acting())
    await _verified(back, target, there)
    assert (await back.diff(target, acting())).empty
    await asyncio.to_thread(cluster.wait_ok)


async def test_a_replica_that_hangs_does_not_take_over(cluster: Cluster) -> None:
    """A replica that does not say how far it has got does not take over, so that no write is lost."""
    target = cluster.target()
    action = ClusterFailover(node=cluster.replica(), max_lag=0)
    change = await action.diff(target, acting())
    primary = cluster.node(str(change.before["primary"]))
    replica = cluster.node(action.node)
    replica.freeze()
    try:
        with pytest.raises(TemporaryError, match="does not answer"):
            await action.diff(cluster.target(timeout="1s"), acting())
    finally:
        replica.thaw()
    assert primary.tell("PING") == "+PONG\r\n"
    cluster.wait_ok()


async def test_what_is_no_replica_of_this_cluster(cluster: Cluster) -> None:
    """Another server is no node, a single server no cluster, and neither is told anything."""
    with pytest.raises(PermanentError, match="no node"):
        await ClusterFailover(node=f"127.0.0.1:{one_server().port}").diff(cluster.target(), acting())
    with pytest.raises(PermanentError, match="not a cluster"):
        await ClusterFailover(node="127.0.0.1:1").diff(target_of(one_server()), acting())


async def test_a_primary_that_is_gone() -> None:
    """Without force a replica whose primary is dead is refused; with force it takes over and slots are served."""
    cluster = await asyncio.to_thread(make_cluster)
    try:
        target = cluster.target()
        replica = cluster.replica()
        # Without this the cluster would help itself before the test can look.
        for node in cluster.nodes:
            node.tell("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        primary = str((await ClusterFailover(node=replica).diff(target, acting())).before["primary"])
        cluster.node(primary).kill()
        for _ in range(200):
            nodes = {node.address: node for node in await target.nodes()}
            if "fail" in nodes[primary].flags:
                break
            await asyncio.sleep(0.05)
        with pytest.raises(PermanentError, match="no connection to its primary") as caught:
            await ClusterFailover(node=replica).diff(target, acting())
        assert caught.value.reason == "not_eligible"
        action = ClusterFailover(node=replica, force=True)
        assert action.needs_approval(target)
        assert not ClusterFailover(node=replica).needs_approval(target)
        change = await action.diff(target, acting())
        await action.apply(target, change, acting())
        await _verified(action, target, change)
        assert (await Ping(node=replica).read(target, looking()))["role"] == "master"
    finally:
        cluster.stop()
