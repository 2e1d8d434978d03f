"""Choosing an endpoint: what is well stays, what is not is left, and nothing of another cluster is ever chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.rpc.healthiest import Healthiest
from remediator.integrations.rpc.target import RpcTarget
from tests.integrations.solana.chain import Cluster, cluster
from tests.integrations.support import looking

PROBE: dict[str, Any] = {"samples": 2, "every": "10ms", "max_lag": 50}
OTHER = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"


@pytest.fixture
async def pool() -> AsyncIterator[tuple[Cluster, RpcTarget]]:
    """Three endpoints of one chain."""
    async with cluster(nodes=3) as it:
        endpoints = [
            {"name": f"node{number}", "url": f"{url}/?api-key=a-secret-of-a-provider", "value": f"rpc-{number}"}
            for number, url in enumerate(it.urls)
        ]
        target = RpcTarget.model_validate({"genesis": it.chain.genesis, "endpoints": endpoints})
        yield it, target
        await target.close()


async def _seen(target: RpcTarget, **parameters: Any) -> Any:
    return await Healthiest.model_validate({**PROBE, **parameters}).read(target, looking())


async def test_what_is_in_use_stays_while_it_is_well(pool: tuple[Cluster, RpcTarget]) -> None:
    """A little behind is no reason to move, whether it is the preferred one or not."""
    it, target = pool
    it.nodes[0].lag = 20
    seen = await _seen(target)
    assert (seen["name"], seen["value"], seen["switch"], seen["well"]) == ("node0", "rpc-0", False, 3)
    assert (seen["preferred"]["name"], seen["preferred"]["well"]) == ("node0", True)
    seen = await _seen(target, current="rpc-2")
    assert (seen["name"], seen["current"], seen["switch"]) == ("node2", "node2", False)
    assert "secret" not in str(seen)


@pytest.mark.parametrize("trouble", ["lag", "silent", "limited", "cluster", "nonsense", "once"])
async def test_what_is_not_well_is_left(pool: tuple[Cluster, RpcTarget], trouble: str) -> None:
    """Lag, silence, refusals, another cluster, nonsense, or one lost answer of two: the next one is chosen."""
    it, target = pool
    node, asked = it.nodes[0], 0

    def once(method: str) -> bool:
        nonlocal asked
        asked += 1
        return asked == 1

    node.lag = 400 if trouble == "lag" else 0
    node.genesis = OTHER if trouble == "cluster" else ""
    answers = {
        "silent": (500, "text/plain", b""),
        "limited": (429, "text/plain", b""),
        "nonsense": (200, "text/html", b"<p>"),
    }
    if trouble in answers:
        node.raw = lambda method: answers[trouble]
    if trouble == "once":
        node.lose = once
    seen = await _seen(target)
    assert seen["switch"]
    assert seen["name"] in ("node1", "node2")
    assert not seen["endpoints"][0]["well"]
    assert (seen["preferred"]["name"], seen["preferred"]["well"]) == ("node0", False)


async def test_an_endpoint_that_runs_ahead_on_another_cluster_makes_nobody_look_old(
    pool: tuple[Cluster, RpcTarget],
) -> None:
    """Slots of another cluster count for nothing: the right endpoints stay well, the wrong one is never chosen."""
    it, target = pool
    it.nodes[2].genesis, it.nodes[2].lag = OTHER, -1_000_000
    it.nodes[0].lag = 400
    seen = await _seen(target)
    assert (seen["name"], seen["well"]) == ("node1", 1)


async def test_what_the_pool_does_not_know_is_left_for_the_best(pool: tuple[Cluster, RpcTarget]) -> None:
    """A service that uses something else is told the best one of the pool."""
    it, target = pool
    it.nodes[0].lag = 30
    seen = await _seen(target, current="something-else")
    assert (seen["current"], seen["switch"]) == ("", True)
    assert seen["name"] in ("node1", "node2")


async def test_no_endpoint_that_is_well_is_no_answer(pool: tuple[Cluster, RpcTarget]) -> None:
    """Unknown is no: with nothing to switch to, the probe fails and no condition holds."""
    it, target = pool
    for node in it.nodes:
        node.raw = lambda method: (503, "text/plain", b"")
    with pytest.raises(PermanentError) as caught:
        await _seen(target)
    assert caught.value.reason == "none_well"
    assert Healthiest().needs() == {"endpoints": "*"}


@pytest.mark.parametrize(
    "endpoints",
    [
        [{"name": "a", "url": "https://a"}],
        [{"name": "a", "url": "https://a"}, {"name": "a", "url": "https://b"}],
        [{"name": "a", "url": "https://a"}, {"name": "b", "url": "https://a"}],
        [{"name": "A", "url": "https://a"}, {"name": "b", "url": "https://b"}],
        [{"name": "a", "url": "http://169.254.169.254"}, {"name": "b", "url": "https://b"}],
        [{"name": "a", "url": "file:///etc/passwd"}, {"name": "b", "url": "https://b"}],
    ],
)
def test_a_pool_has_different_endpoints(endpoints: list[dict[str, str]]) -> None:
    """One endpoint, a doubled name or address, or an address that is never connected to is refused."""
    with pytest.raises(ValidationError):
        RpcTarget.model_validate({"genesis": OTHER, "endpoints": endpoints})
