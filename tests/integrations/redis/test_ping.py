"""Tests of the probe redis.ping, against a real server; failures are in test_target.py."""

from __future__ import annotations

from remediator.integrations.redis.ping import Ping
from tests.integrations.redis.servers import one_server, target_of
from tests.integrations.support import looking
from tests.redis import redis_server


async def test_a_server_that_answers() -> None:
    """The answer, who gave it and in which role."""
    server = one_server()
    evidence = dict(await Ping().read(target_of(server), looking()))
    assert evidence.pop("seconds") >= 0
    assert evidence == {"pong": True, "node": f"127.0.0.1:{server.port}", "role": "master"}


async def test_a_replica_says_so() -> None:
    """A server that answers but takes no writes is not mistaken for a master."""
    with redis_server("--replicaof", "127.0.0.1", str(one_server().port)) as replica:
        assert (await Ping().read(target_of(replica), looking()))["role"] == "slave"
