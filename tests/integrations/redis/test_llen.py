"""Tests of the probe redis.llen, against a real server and a real cluster."""

from __future__ import annotations

import pytest

from remediator.errors import PermanentError
from remediator.integrations.redis.llen import Llen
from tests.integrations.redis.servers import PERMIT, one_cluster, one_server, target_of
from tests.integrations.support import looking


async def test_how_long_a_list_is() -> None:
    """A list has its length; none at all is 0, and is told apart."""
    server = one_server()
    server.tell("DEL", "jobs", "nothing")
    server.tell("RPUSH", "jobs", "a", "b")
    target = target_of(server)
    assert await Llen(key="jobs").read(target, looking()) == {"key": "jobs", "length": 2, "exists": True}
    assert await Llen(key="nothing").read(target, looking()) == {"key": "nothing", "length": 0, "exists": False}


async def test_t14_a_queue_is_not_drained_while_jobs_are_in_flight() -> None:
    """Trap T14: jobs that workers have taken are in no queue; an empty queue alone never says drained."""
    server = one_server()
    server.tell("DEL", "jobs", "jobs:active")
    server.tell("RPUSH", "jobs", "a")
    server.tell("LMOVE", "jobs", "jobs:active", "LEFT", "RIGHT")
    target = target_of(server)
    blind = await Llen(key="jobs").read(target, looking())
    assert blind["length"] == 0
    assert "drained" not in blind
    busy = await Llen(key="jobs", in_flight="jobs:active").read(target, looking())
    assert (busy["length"], busy["in_flight"], busy["total"], busy["drained"]) == (0, 1, 1, False)
    server.tell("DEL", "jobs:active")
    assert (await Llen(key="jobs", in_flight="jobs:active").read(target, looking()))["drained"] is True


async def test_another_type_is_no_list() -> None:
    """The length of what is no list is not 0."""
    server = one_server()
    server.tell("SET", "text", "x")
    with pytest.raises(PermanentError, match="holds a string"):
        await Llen(key="text").read(target_of(server), looking())


async def test_the_list_in_flight_needs_permission_too() -> None:
    """Both keys must be permitted."""
    target = target_of(one_server(), permit={**PERMIT, "keys": ["jobs"]})
    with pytest.raises(PermanentError, match="jobs:active"):
        await Llen(key="jobs", in_flight="jobs:active").read(target, looking())


async def test_in_a_cluster_the_node_that_has_the_key_is_asked() -> None:
    """Whichever node has a key, its length is found."""
    cluster = one_cluster()
    for number in range(6):
        key = f"queue-{number}"
        for node in cluster.nodes:
            node.tell("RPUSH", key, "a")  # all nodes but the right one refuse it
        assert (await Llen(key=key).read(cluster.target(), looking()))["length"] == 1
