"""``redis.ping``: does a Redis server answer, and in which role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.redis._names import Address
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext


class Ping(Probe[RedisTarget]):
    """Asks PING of the server that takes writes, or of one node, and how long it took with connecting."""

    node: Address | None = Field(default=None, description="`host:port` of a node; needed with a cluster.")

    def needs(self) -> Mapping[str, str]:
        """A node that is named must be permitted."""
        return {} if self.node is None else {"nodes": self.node}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The answer as evidence. Raises TemporaryError, PermanentError."""
        began = context.clock.monotonic()
        async with target.server(node=self.node) as server:
            pong = await server.ask("PING")
            role = (await server.info("replication"))["role"]
            return {
                "pong": pong in (True, b"PONG"),
                "node": server.address,
                "role": role,
                "seconds": round(context.clock.monotonic() - began, 6),
            }
