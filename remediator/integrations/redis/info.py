"""``redis.info``: one section of what a Redis server says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from remediator.integrations.redis._names import Address
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext

_LONGEST = 500
_MOST = 300


class Info(Probe[RedisTarget]):
    """Reads one section of INFO, such as ``memory``: every field by its own name, numbers as numbers."""

    literal: ClassVar[frozenset[str]] = frozenset({"section"})

    section: Literal[
        "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster", "keyspace",
        "errorstats", "commandstats", "latencystats",
    ] = Field(description="The section of INFO, such as `memory` or `clients`.")  # fmt: skip
    node: Address | None = Field(default=None, description="`host:port` of a node; needed with a cluster.")

    def needs(self) -> Mapping[str, str]:
        """A node that is named must be permitted."""
        return {} if self.node is None else {"nodes": self.node}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The section as evidence. Raises TemporaryError, PermanentError."""
        async with target.server(node=self.node) as server:
            found = await server.info(self.section)
            return {"node": server.address, **dict(list(_plain(found).items())[:_MOST])}


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    """Only what JSON holds; texts bounded."""
    out: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            out[str(name)] = _plain(value)
        elif isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
            out[str(name)] = value
        else:
            out[str(name)] = str(value)[:_LONGEST]
    return out
