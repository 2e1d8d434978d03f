"""``redis.llen``: how long a list is, and how much of it is being worked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.errors import PermanentError
from remediator.integrations.redis._names import Key
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext


class Llen(Probe[RedisTarget]):
    """Reads the length of a list, and with ``in_flight`` of the list of jobs that workers have taken.

    An empty queue is not a drained one: jobs that were taken are in no queue. ``drained`` exists only where
    ``in_flight`` says where to look for them; elsewhere the workers have to be asked by another probe.
    """

    key: Key = Field(description="The key of the list, such as `action_jobs` or `bull:card-generation:wait`.")
    in_flight: Key | None = Field(
        default=None, description="The list that holds the jobs being worked on, such as `bull:card-generation:active`."
    )

    def needs(self) -> Mapping[str, str]:
        """The key must be permitted."""
        return {"keys": self.key}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The lengths as evidence; no list is 0. Raises TemporaryError, and PermanentError for another type."""
        length, exists = await _length(target, self.key)
        evidence: dict[str, Any] = {"key": self.key, "length": length, "exists": exists}
        if self.in_flight is not None:
            refusal = target.refusal("redis.llen", {"keys": self.in_flight})
            if refusal is not None:
                raise PermanentError(refusal, reason="permit")
            # Asked after the queue: a job that is taken in between is counted in both and never in none.
            taken, _ = await _length(target, self.in_flight)
            evidence |= {"in_flight": taken, "total": length + taken, "drained": length + taken == 0}
        return evidence


async def _length(target: RedisTarget, key: str) -> tuple[int, bool]:
    async with target.server(key=key) as server:
        kind = (await server.ask("TYPE", key)).decode()
        if kind not in ("list", "none"):
            raise PermanentError(f'"{key}" holds a {kind} and no list', reason="type")
        return int(await server.ask("LLEN", key)), kind == "list"
