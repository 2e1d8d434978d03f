"""``redis.persistence``: when a Redis server last saved, and whether that went well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.redis._names import Address
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext


class Persistence(Probe[RedisTarget]):
    """Reads INFO persistence: the age of the last snapshot by the server's own clock, and the append-only file."""

    node: Address | None = Field(default=None, description="`host:port` of a node; needed with a cluster.")

    def needs(self) -> Mapping[str, str]:
        """A node that is named must be permitted."""
        return {} if self.node is None else {"nodes": self.node}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The state as evidence. Raises TemporaryError, PermanentError."""
        async with target.server(node=self.node) as server:
            found = await server.info("persistence")
            now = int((await server.ask("TIME"))[0])
        saved = int(found["rdb_last_save_time"])
        aof = bool(found.get("aof_enabled", 0))
        return {
            "loading": bool(found.get("loading", 0)),
            "last_save": saved,
            "last_save_seconds": max(0, now - saved),
            "saving": bool(found.get("rdb_bgsave_in_progress", 0)),
            "last_save_ok": found.get("rdb_last_bgsave_status") == "ok",
            "changes_since_save": int(found.get("rdb_changes_since_last_save", 0)),
            "aof": aof,
            # The word of a file that is not written would compare as if all were well.
            **({"aof_ok": found.get("aof_last_write_status") == "ok"} if aof else {}),
        }
