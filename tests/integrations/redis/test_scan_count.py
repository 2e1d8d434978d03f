"""Tests of the probe redis.scan_count, against a real server and a real cluster."""

from __future__ import annotations

from remediator.integrations.redis.scan_count import ScanCount
from tests.integrations.redis.servers import one_cluster, target_of
from tests.integrations.support import looking
from tests.redis import redis_server

FILL = "for i = 1, 3000 do redis.call('SET', 'ticket:' .. i, 1) redis.call('SET', 'other:' .. i, 1) end return 1"


async def test_t17_keys_are_counted_and_keys_is_never_sent() -> None:
    """Trap T17: the count is exact, made of many small SCANs, and the server has never seen KEYS."""
    with redis_server() as server:
        server.tell("EVAL", FILL, "0")
        evidence = await ScanCount(pattern="ticket:*").read(target_of(server), looking())
        assert evidence == {"pattern": "ticket:*", "count": 3000, "complete": True}
        stats = server.tell("INFO", "commandstats")
        assert "cmdstat_keys" not in stats
        assert "cmdstat_scan:calls=" in stats
        assert "cmdstat_scan:calls=1," not in stats


async def test_it_stops_and_says_so() -> None:
    """A count that stopped early is not taken for the whole."""
    with redis_server() as server:
        server.tell("EVAL", FILL, "0")
        evidence = await ScanCount(pattern="ticket:*", at_most=1000).read(target_of(server), looking())
    assert evidence["complete"] is False
    assert evidence["count"] < 1000


async def test_in_a_cluster_all_primaries_are_asked() -> None:
    """The keys of every node are counted."""
    cluster = one_cluster()
    for number in range(30):
        for node in cluster.nodes:
            node.tell("SET", f"scan:{number}", "x")
    evidence = await ScanCount(pattern="scan:*").read(cluster.target(), looking())
    assert evidence == {"pattern": "scan:*", "count": 30, "complete": True}
