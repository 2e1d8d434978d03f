"""``redis.bgsave``: let a Redis server write a snapshot now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis._names import Address
from remediator.integrations.redis.target import RedisTarget

_NEWER = "a newer one"


class Bgsave(Action[RedisTarget]):
    """Sends BGSAVE and waits until the snapshot is written, unless there is one that is young enough."""

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"max_age"})

    node: Address | None = Field(default=None, description="`host:port` of a node; needed with a cluster.")
    max_age: Duration = Field(default=60.0, ge=1, description="A snapshot that is younger is good enough.")

    def needs(self) -> Mapping[str, str]:
        """The node must be permitted; ``master`` stands for the server that takes writes."""
        return {"nodes": self.node or "master"}

    def subject(self) -> str:
        """The server: it writes one snapshot at a time."""
        return f"snapshot/{self.node or 'master'}"

    async def _look(self, target: RedisTarget) -> tuple[dict[str, Any], int]:
        async with target.server(node=self.node) as server:
            return await server.info("persistence"), int((await server.ask("TIME"))[0])

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """The time of the last snapshot. Raises TemporaryError while one is being written."""
        found, now = await self._look(target)
        if found.get("rdb_bgsave_in_progress"):
            raise TemporaryError("a snapshot is being written", reason="saving")
        last = int(found["rdb_last_save_time"])
        # A server that has just been started calls its start a save; since Redis 7 it counts real ones.
        real = int(found.get("rdb_saves", 1)) > 0
        young = real and found.get("rdb_last_bgsave_status") == "ok" and now - last < self.max_age
        return Change(
            summary=f"write a snapshot on {self.node or 'the master'}",
            before={"last_save": last},
            after={"last_save": last if young else _NEWER},
        )

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) when no answer came."""
        async with target.server(node=self.node) as server:
            await server.act(context.check_deadline, "BGSAVE")
            return Outcome(summary=f"{server.address} writes a snapshot", data={"node": server.address})

    async def verify(self, target: RedisTarget, change: Change, context: ActionContext) -> None:
        """Returns when a newer snapshot is written; PermanentError when writing it failed."""
        found, _ = await self._look(target)
        if found.get("rdb_bgsave_in_progress"):
            raise TemporaryError("the snapshot is being written", reason="saving")
        if found.get("rdb_last_bgsave_status") != "ok":
            raise PermanentError("the snapshot could not be written; the server's log says why", reason="save_failed")
        if int(found["rdb_last_save_time"]) < int(change.before["last_save"]) or not found.get("rdb_saves", 1):
            raise TemporaryError("no newer snapshot yet", reason="not_yet")

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if there is a newer snapshot, else unknown."""
        found, _ = await self._look(target)
        newer = int(found["rdb_last_save_time"]) > int(change.before["last_save"])
        return Happened.YES if newer else Happened.UNKNOWN
