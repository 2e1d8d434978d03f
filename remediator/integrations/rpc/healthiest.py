"""``rpc.healthiest``: which endpoint of a pool a service should use now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from remediator.errors import ActionError, PermanentError
from remediator.integrations._client import Unanswered
from remediator.integrations.rpc._question import Question
from remediator.integrations.rpc.target import PoolEndpoint, RpcTarget
from remediator.probe import Probe, ProbeContext


class Healthiest(Question, Probe[RpcTarget]):
    """Asks every endpoint of the pool several times and chooses one, in favour of what is in use.

    An endpoint is well when it answered every time, shows the pool's genesis hash, and lags at most `max_lag` slots.
    What is in use stays while it is well; otherwise the one with the least lag is chosen, the preferred one of equals.
    """

    literal: ClassVar[frozenset[str]] = frozenset({"samples", "every", "max_lag"})

    def needs(self) -> Mapping[str, str]:
        """The pool must be permitted as a whole: what is chosen is not known before."""
        return {"endpoints": "*"}

    async def read(self, target: RpcTarget, context: ProbeContext) -> Mapping[str, Any]:
        """What each endpoint did and which one to use. Raises PermanentError when none is well."""
        current = self._in_use(target)
        seen = await asyncio.gather(*(self._watched(target, endpoint) for endpoint in target.endpoints))
        newest = max((each["slot"] for each in seen if each["same_cluster"]), default=0)
        for each in seen:
            each["lag"] = newest - each["slot"] if each["slot"] and each["same_cluster"] else -1
            each["well"] = each["answered"] == self.samples and 0 <= each["lag"] <= self.max_lag
        well = [number for number, each in enumerate(seen) if each["well"]]
        if not well:
            raise PermanentError("no endpoint of the pool is well; there is nothing to switch to", reason="none_well")
        stays = current is not None and seen[current]["well"]
        chosen = current if stays and current is not None else min(well, key=lambda n: (seen[n]["lag"], n))
        endpoint = target.endpoints[chosen]
        return {
            "name": endpoint.name,
            "value": endpoint.value or endpoint.name,
            "current": target.endpoints[current].name if current is not None else "",
            "switch": not stays and chosen != current,
            "well": len(well),
            "preferred": {key: seen[0][key] for key in ("name", "well", "lag")},
            "endpoints": seen,
        }

    def _in_use(self, target: RpcTarget) -> int | None:
        """The place of what is in use; None where the pool does not know it."""
        if self.current is None:
            return 0
        names = [{each.name, each.value or each.name} for each in target.endpoints]
        return next((number for number, known in enumerate(names) if self.current in known), None)

    async def _watched(self, target: RpcTarget, endpoint: PoolEndpoint) -> dict[str, Any]:
        slot, answered, genesis = 0, 0, ""
        for number in range(self.samples):
            if number:
                await asyncio.sleep(self.every)
            try:
                genesis = str(await _ask(target, endpoint, "getGenesisHash", []))
                told = await _ask(target, endpoint, "getSlot", [{"commitment": "finalized"}])
            except (ActionError, Unanswered, ValueError):
                continue
            if type(told) is int and told > 0:
                slot, answered = max(slot, told), answered + 1
        return {
            "name": endpoint.name,
            "slot": slot,
            "answered": answered,
            "same_cluster": genesis == target.genesis,
        }


async def _ask(target: RpcTarget, endpoint: PoolEndpoint, method: str, params: list[Any]) -> Any:
    """The result of one JSON-RPC call. Raises ValueError for anything that is none, and what the client raises."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    answer = await target.client.send("POST", endpoint.url, headers={"Content-Type": "application/json"}, body=body)
    if answer.status != 200 or answer.broken or answer.truncated:
        raise ValueError(f"HTTP {answer.status}")
    told = json.loads(answer.body)
    if not isinstance(told, dict) or "result" not in told:
        raise ValueError("no result")
    return told["result"]
