"""Tests of the probe redis.cluster, against a real cluster of six nodes."""

from __future__ import annotations

import json
import time

import pytest

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis._cluster import parse_nodes
from remediator.integrations.redis.cluster import Cluster
from tests.integrations.redis.servers import Cluster as Servers
from tests.integrations.redis.servers import one_cluster, one_server, target_of
from tests.integrations.support import looking


@pytest.fixture
def cluster() -> Servers:
    """The shared cluster."""
    return one_cluster()


async def test_a_healthy_cluster(cluster: Servers) -> None:
    """State, slots, roles, and replicas that could take over, with how far they are behind."""
    evidence = await Cluster().read(cluster.target(), looking())
    assert (evidence["state"], evidence["slots_covered"], evidence["slots_missing"]) == ("ok", 16384, 0)
    assert (evidence["known_nodes"], evidence["failed_nodes"]) == (6, 0)
    primaries = [node for node in evidence["nodes"] if node["role"] == "primary"]
    replicas = [node for node in evidence["nodes"] if node["role"] == "replica"]
    assert (len(primaries), len(replicas)) == (3, 3)
    assert sum(node["slots"] for node in primaries) == 16384
    assert {node["primary"] for node in replicas} == {node["node"] for node in primaries}
    assert all(node["eligible"] and node["lag_bytes"] >= 0 for node in replicas)
    assert {node["why"] for node in primaries} == {"it is a primary"}
    json.dumps(evidence, allow_nan=False)


async def test_nodes_that_hang_are_seen_and_do_not_hold_it_up(cluster: Servers) -> None:
    """With a hung first seed and a hung replica the rest is told within the time-out, and the replica is not fit."""
    replica = cluster.replica()
    hung = cluster.node(replica)
    others = [f"127.0.0.1:{node.port}" for node in cluster.nodes if node is not hung]
    target = cluster.target(addresses=[replica, *others], timeout="2s")
    hung.freeze()
    try:
        began = time.monotonic()
        evidence = await Cluster().read(target, looking())
        assert time.monotonic() - began < 2 * 2 + 2
    finally:
        hung.thaw()
    (found,) = [node for node in evidence["nodes"] if node["node"] == replica]
    assert (found["eligible"], found["answers"], found["why"]) == (False, False, "it does not answer")
    assert "lag_bytes" not in found
    assert evidence["failed_nodes"] == 1
    cluster.wait_ok()


async def test_what_is_no_cluster() -> None:
    """A single server is not taken for a cluster, whatever the settings say."""
    with pytest.raises(PermanentError, match="not a cluster"):
        await Cluster().read(target_of(one_server()), looking())
    with pytest.raises(PermanentError, match="cluster support disabled"):
        await Cluster().read(target_of(one_server(), mode="cluster"), looking())


async def test_no_node_at_all_is_temporary(cluster: Servers) -> None:
    """When no node answers it is unknown what state the cluster is in."""
    with pytest.raises(TemporaryError):
        await Cluster().read(cluster.target(addresses=["127.0.0.1:1", "127.0.0.1:2"]), looking())


def test_the_lines_of_cluster_nodes() -> None:
    """Slots that move, IPv6, host names, failed nodes, and a node that does not know its own address."""
    text = b"""\
a 10.0.0.1:6379@16379,redis-0 myself,master - 0 1 1 connected 0-5 7 [8->-b]
b 2001:db8::1:6380@16380 slave,fail a 0 1 1 disconnected
c :0@0 master,noaddr - 0 1 1 disconnected
d :6379@16379 myself,master - 0 0 0 connected
"""
    first, second, third, fourth = parse_nodes(text, "seed:6379")
    assert (first.address, first.primary, first.size) == ("10.0.0.1:6379", True, 7)
    assert first.holds(7)
    assert not first.holds(8)
    assert (second.address, second.failed, second.master, second.connected) == ("[2001:db8::1]:6380", True, "a", False)
    assert third.failed
    assert fourth.address == "seed:6379"
