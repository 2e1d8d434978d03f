"""``redis.delete_key``: remove one key that the settings name, keeping its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis import set_key
from remediator.integrations.redis._names import Key, Value
from remediator.integrations.redis._string import DELETE, must_be_listed, read_text
from remediator.integrations.redis.target import RedisTarget


class DeleteKey(Action[RedisTarget]):
    """Removes a key that holds text, only if it still holds what was shown. Needs Redis 7 or newer.

    The key stands in ``permit.writable_keys`` letter by letter. Lists, hashes and the like are refused, because they
    could not be put back: ``redis.quarantine_list`` is for lists.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    key: Key = Field(description="The key.")
    only_if: Value | None = Field(
        default=None, description="Act only if it holds this text now; taking a change back uses it."
    )

    def needs(self) -> Mapping[str, str]:
        """The key must be permitted to be written."""
        return {"writable_keys": self.key}

    def subject(self) -> str:
        """The key."""
        return f"key/{self.key}"

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """What it holds. Raises PermanentError if it is not what ``only_if`` says, or no text."""
        must_be_listed(target, self.key)
        async with target.server(key=self.key) as server:
            value, expires = await read_text(server, self.key)
        if self.only_if is not None and value not in (None, self.only_if):
            raise PermanentError(f'"{self.key}" does not hold what this change is made for', reason="changed")
        return Change(
            summary=f"delete {self.key}",
            before={"value": value, "expires_at": expires},
            after={"value": None, "expires_at": None},
        )

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Remove it, if it still holds what was shown; look and removal are one for Redis."""
        must_be_listed(target, self.key)
        async with target.server(key=self.key) as server:
            done = await server.act_script(context.check_deadline, DELETE, [self.key], change.before["value"])
        if not done:
            raise TemporaryError(f'"{self.key}" has changed since it was looked at', reason="conflict")
        return Outcome(summary=f"{self.key} is deleted", data={"key": self.key})

    def inverse(self, change: Change) -> Action[RedisTarget] | None:
        """The text of before, only if there still is no such key; gone by itself when it would have been."""
        if change.empty:
            return None
        back: dict[str, Any] = {"key": self.key, "value": change.before["value"], "only_if_absent": True}
        expires = change.before.get("expires_at")
        return set_key.SetKey.model_validate(back if expires is None else {**back, "expires_at": expires})

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if there is no such key, no if it holds the text of before, else unknown."""
        async with target.server(key=self.key) as server:
            value, _ = await read_text(server, self.key)
        if value is None:
            return Happened.YES
        return Happened.NO if value == change.before["value"] else Happened.UNKNOWN
