"""The health of endpoints: lag, silence, refusals and wrong clusters are evidence."""

from __future__ import annotations

from pathlib import Path

from remediator.integrations.solana.rpc_health import RpcHealth
from tests.integrations.solana.chain import cluster
from tests.integrations.solana.stages import treasury, wallet
from tests.integrations.support import looking


async def test_each_endpoint_is_told_as_it_is(tmp_path: Path) -> None:
    """One lags, one refuses half of the questions, one is of another cluster and ahead: only the good one is well."""
    async with cluster(nodes=4) as it:
        target = treasury(it, tmp_path, wallet(it))
        it.nodes[1].lag = 400
        asked = 0

        def half(method: str) -> tuple[int, str, bytes] | None:
            nonlocal asked
            asked += method == "getEpochInfo"
            return (429, "text/plain", b"") if method == "getEpochInfo" and asked % 2 else None

        it.nodes[2].raw = half
        it.nodes[3].genesis, it.nodes[3].lag = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG", -100_000
        seen = await RpcHealth(samples=4, max_lag=50).read(target, looking())
        good, behind, limited, foreign = seen["endpoints"]
        assert (good["healthy"], good["answered"]) == (True, 1.0)
        assert good["lag"] < 50
        assert not behind["healthy"]
        assert behind["lag"] >= 350
        assert (limited["healthy"], limited["limited"], limited["answered"]) == (False, 0.5, 0.5)
        assert (foreign["healthy"], foreign["same_cluster"]) == (False, False)
        assert (seen["healthy"], seen["limited"]) == (1, 0.5)
        await target.close()


async def test_silence_everywhere_is_evidence_too(tmp_path: Path) -> None:
    """No endpoint answers: none is healthy, and the probe says so instead of failing."""
    async with cluster(nodes=2) as it:
        target = treasury(it, tmp_path, wallet(it))
        for node in it.nodes:
            node.raw = lambda method: (500, "text/plain", b"")
        seen = await RpcHealth().read(target, looking())
        assert (seen["healthy"], seen["worst_lag"], seen["slot"]) == (0, -1, 0)
        await target.close()
