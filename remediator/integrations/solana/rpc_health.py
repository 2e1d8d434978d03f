"""``solana.rpc_health``: how far the RPC endpoints of a target are behind, how slow, and how often they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.integrations.solana._chain import ChainError, Endpoint
from remediator.integrations.solana.target import SolanaTarget
from remediator.probe import Probe, ProbeContext


class RpcHealth(Probe[SolanaTarget]):
    """Asks every endpoint for its finalized slot a few times, and compares them with each other.

    An endpoint is healthy when every question was answered, it is on the right cluster, and it lags at most `max_lag`
    slots behind the foremost one of that cluster.
    """

    literal: ClassVar[frozenset[str]] = frozenset({"samples", "max_lag"})

    samples: int = Field(default=3, ge=1, le=10, description="How often each endpoint is asked.")
    max_lag: int = Field(default=50, ge=0, le=100_000, description="Slots that a healthy endpoint may be behind.")

    def needs(self) -> Mapping[str, str]:
        """Nothing narrows it: it reads the endpoints of the target."""
        return {}

    async def read(self, target: SolanaTarget, context: ProbeContext) -> Mapping[str, Any]:
        """What each endpoint did. One that does not answer is evidence, not an error."""
        seen = [await self._one(target, endpoint, context) for endpoint in await target.endpoints()]
        newest = max((each["slot"] for each in seen if each["same_cluster"]), default=0)
        for each in seen:
            each["lag"] = max(0, newest - each["slot"]) if each["slot"] else -1
            each["healthy"] = each["same_cluster"] and each["answered"] == 1.0 and 0 <= each["lag"] <= self.max_lag
        return {
            "endpoints": seen,
            "healthy": sum(each["healthy"] for each in seen),
            "slot": newest,
            "worst_lag": max(each["lag"] for each in seen),
            "limited": max(each["limited"] for each in seen),
        }

    async def _one(self, target: SolanaTarget, endpoint: Endpoint, context: ProbeContext) -> dict[str, Any]:
        slot, answered, limited, slowest, genesis = 0, 0, 0, 0.0, ""
        for number in range(self.samples):
            began = context.clock.monotonic()
            try:
                slot = max(slot, (await endpoint.epoch()).slot)
                if number == 0:
                    genesis = await endpoint.genesis()
                answered += 1
            except ChainError as error:
                limited += error.reason == "rate_limited"
            slowest = max(slowest, context.clock.monotonic() - began)
        return {
            "name": endpoint.name,
            "slot": slot,
            "same_cluster": genesis == target.genesis,
            "answered": answered / self.samples,
            "limited": limited / self.samples,
            "seconds": round(slowest, 6),
        }
