"""``redis.scan_count``: how many keys there are of a pattern, without blocking the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.redis._names import Key
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext

_STEP = 500
"""Keys that the server looks at in one call: well under a millisecond."""


class ScanCount(Probe[RedisTarget]):
    """Counts keys with SCAN, a few hundred at a time, and stops after ``at_most`` keys were looked at.

    KEYS, which stops the server for everybody while it looks at all keys, is never sent.
    """

    pattern: Key = Field(description="What the keys look like, such as `ticket:*`: Redis' own `*`, `?`, `[a-z]`.")
    at_most: int = Field(
        default=100_000, ge=1, le=10_000_000, description="How many keys are looked at before it stops."
    )

    def needs(self) -> Mapping[str, str]:
        """The pattern must be permitted, as it stands."""
        return {"keys": self.pattern}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The count as evidence; ``complete`` is false if it stopped early. Raises TemporaryError, PermanentError."""
        places: list[str | None] = [None]
        if target.mode == "cluster":
            places = [node.address for node in await target.nodes() if node.primary and node.size]
        looked, complete, found = 0, True, 0
        for place in places:
            counted, seen, done = await self._scan(target, place, self.at_most - looked)
            found, looked, complete = found + counted, looked + seen, complete and done
        return {"pattern": self.pattern, "count": found, "complete": complete}

    async def _scan(self, target: RedisTarget, node: str | None, most: int) -> tuple[int, int, bool]:
        """Keys found (SCAN may give one twice: they are counted once), keys looked at, whether it came to the end."""
        found: set[bytes] = set()
        cursor, looked = 0, 0
        async with target.server(node=node) as server:
            while looked < most:
                answer, keys = await server.ask("SCAN", cursor, "MATCH", self.pattern, "COUNT", _STEP)
                found.update(keys)
                looked += _STEP
                cursor = int(answer)
                if cursor == 0:
                    return len(found), looked, True
        return len(found), looked, False
