"""``redis.quarantine_list``: put a list of jobs aside instead of deleting it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis._names import Aside, Key, quarantine_name
from remediator.integrations.redis._string import must_be_listed
from remediator.integrations.redis.target import RedisTarget

if TYPE_CHECKING:
    from remediator.integrations.redis._server import Server

_MOVE = """
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
if redis.call('RENAMENX', KEYS[1], KEYS[2]) == 0 then return 0 end
if ARGV[2] == '0' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 1
"""
_MARK = re.compile(r"[^A-Za-z0-9._-]")


class QuarantineList(Action[RedisTarget]):
    """Renames a list, with everything in it, to a name where nobody looks, and lets it expire there after ``ttl``.

    Until then it can be put back. A list that still grows or shrinks is not stuck and is left alone.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"ttl", "running"})

    key: Key = Field(description="The key of the list, such as `bull:card-generation:wait`.")
    ttl: Duration = Field(
        default=604800.0, ge=60, le=31536000, description="How long it is kept; then its jobs are gone."
    )
    running: bool = Field(
        default=False, description="True to put aside also a list `…:active`, whose jobs are being worked on."
    )
    restore: Aside | None = Field(
        default=None, description="The name it was given; it is put back. Taking a change back uses it."
    )
    length: int | None = Field(
        default=None, ge=1, description="How long the list must be; taking a change back uses it."
    )

    def needs_approval(self, target: RedisTarget) -> bool:
        """True for putting jobs aside, which are gone after a while; not for putting them back."""
        return self.restore is None

    def needs(self) -> Mapping[str, str]:
        """The key must be permitted to be written."""
        return {"writable_keys": self.key}

    def subject(self) -> str:
        """The key."""
        return f"key/{self.key}"

    def _aside(self, mark: str) -> str:
        try:
            return quarantine_name(self.key, _MARK.sub("-", mark))
        except ValueError as error:
            raise PermanentError(f'"{self.key}": {error}', reason="key") from None

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """How long the list is and where it would go. Raises PermanentError for what is no list of waiting jobs."""
        must_be_listed(target, self.key)
        async with target.server(key=self.key) as server:
            if self.restore is not None:
                return await self._diff_back(server, self.restore)
            length = await _length(server, self.key)
            if length == 0:
                await self._misnamed(server)
                return Change(summary=f"{self.key} is empty", before={"length": 0}, after={"length": 0})
        if self.key.endswith(":active") and not self.running:
            raise PermanentError(
                f'"{self.key}" holds jobs that are being worked on; let the queue itself find stalled ones, or write '
                "running: true once all workers are stopped",
                reason="running_jobs",
            )
        aside = self._aside(context.key)
        return Change(
            summary=f"put {length} jobs of {self.key} aside as {aside} for {format_duration(self.ttl)}",
            before={"key": self.key, "length": length},
            after={"key": aside, "length": length, "kept_seconds": self.ttl},
        )

    async def _misnamed(self, server: Server) -> None:
        """Bull's list of waiting jobs is called ``wait``; ``waiting`` never exists (bullmq: queue-keys)."""
        if self.key.endswith(":waiting") and await _length(server, self.key.removesuffix("ing")):
            raise PermanentError(
                f'there is no list "{self.key}"; Bull keeps waiting jobs in "{self.key.removesuffix("ing")}"',
                reason="misnamed",
            )

    async def _diff_back(self, server: Server, aside: str) -> Change:
        if not aside.startswith(self._aside("")):
            raise PermanentError(f'"{aside}" is not where "{self.key}" is put aside', reason="restore")
        kept, there = await _length(server, aside), await _length(server, self.key)
        if not kept and self.length is not None and there == self.length:
            return Change(summary=f"{self.key} is back", before={"length": there}, after={"length": there})
        if not kept or there or (self.length is not None and kept != self.length):
            raise PermanentError(
                f'"{aside}" holds {kept} jobs and "{self.key}" {there}; it is put back only where nothing is',
                reason="changed",
            )
        return Change(
            summary=f"put {kept} jobs back as {self.key}",
            before={"key": aside, "length": kept},
            after={"key": self.key, "length": kept},
        )

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Rename it, if it still is as long as shown; look and rename are one for Redis."""
        must_be_listed(target, self.key)
        names = [str(change.before["key"]), str(change.after["key"])]
        kept = round(self.ttl * 1000) if self.restore is None else 0
        async with target.server(key=self.key) as server:
            done = await server.act_script(context.check_deadline, _MOVE, names, int(change.before["length"]), kept)
        if not done:
            raise TemporaryError(
                f'"{names[0]}" has changed since it was looked at; a list that moves is not stuck', reason="conflict"
            )
        return Outcome(summary=change.summary, data=dict(change.after))

    def inverse(self, change: Change) -> QuarantineList | None:
        """Put back, only if it is there as it was left and nothing has come in under the old name."""
        if self.restore is not None or change.empty:
            return None
        return QuarantineList(key=self.key, restore=str(change.after["key"]), length=int(change.after["length"]))

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the list is at its new name, no if it is at its old one, else unknown."""
        async with target.server(key=self.key) as server:
            old = await _length(server, str(change.before["key"]))
            new = await _length(server, str(change.after["key"]))
        if new == change.after["length"]:
            return Happened.YES
        return Happened.NO if not new and old == change.before["length"] else Happened.UNKNOWN


async def _length(server: Server, key: str) -> int:
    """How long the list is, 0 if there is none. Raises PermanentError for another type."""
    kind = (await server.ask("TYPE", key)).decode()
    if kind not in ("list", "none"):
        raise PermanentError(f'"{key}" holds a {kind} and no list', reason="type")
    return int(await server.ask("LLEN", key))
