"""``redis.set_key``: set one key that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis import delete_key
from remediator.integrations.redis._names import Key, Value
from remediator.integrations.redis._string import SET, must_be_listed, read_text
from remediator.integrations.redis.target import RedisTarget


class SetKey(Action[RedisTarget]):
    """Sets a key to a text, only if it still holds what was shown. Needs Redis 7 or newer.

    The key stands in ``permit.writable_keys`` letter by letter; wildcards do not count there.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"ttl"})

    key: Key = Field(description="The key.")
    value: Value = Field(description="The text it is to hold. It is shown and kept: no secrets.")
    ttl: Duration | None = Field(
        default=None, gt=0, description="After this time it is gone by itself; never if absent."
    )
    only_if: Value | None = Field(
        default=None, description="Act only if it holds this text now; taking a change back uses it."
    )
    only_if_absent: bool = Field(default=False, description="Act only if there is no such key now.")
    expires_at: int | None = Field(
        default=None, ge=0, description="When it is gone by itself, in Unix milliseconds; taking a change back uses it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> SetKey:
        if self.only_if is not None and self.only_if_absent:
            raise ValueError("write only_if or only_if_absent, not both")
        if self.ttl is not None and self.expires_at is not None:
            raise ValueError("write ttl or expires_at, not both")
        return self

    def needs(self) -> Mapping[str, str]:
        """The key must be permitted to be written."""
        return {"writable_keys": self.key}

    def subject(self) -> str:
        """The key."""
        return f"key/{self.key}"

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """What it holds and what it would hold. Raises PermanentError if it is not what ``only_if`` says."""
        must_be_listed(target, self.key)
        async with target.server(key=self.key) as server:
            value, expires = await read_text(server, self.key)
        before = {"value": value, "expires_at": expires}
        after: dict[str, Any] = {"value": self.value, "expires_at": self.expires_at}
        if self.ttl is not None:
            after = {"value": self.value, "ttl_seconds": self.ttl}
        unwanted = value != self.only_if if self.only_if is not None else self.only_if_absent and value is not None
        if unwanted and before != after:
            raise PermanentError(f'"{self.key}" does not hold what this change is made for', reason="changed")
        return Change(summary=f"set {self.key}", before=before, after=after)

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Set it, if it still holds what was shown; look and write are one for Redis."""
        must_be_listed(target, self.key)
        before = change.before["value"]
        how: tuple[str, int | str] = ("", "")
        if self.ttl is not None:
            how = ("PX", max(1, round(self.ttl * 1000)))
        elif self.expires_at is not None:
            how = ("PXAT", max(1, self.expires_at))
        async with target.server(key=self.key) as server:
            there = "" if before is None else "1"
            done = await server.act_script(
                context.check_deadline, SET, [self.key], there, before or "", self.value, *how
            )
        if not done:
            raise TemporaryError(f'"{self.key}" has changed since it was looked at', reason="conflict")
        return Outcome(summary=f"{self.key} is set", data={"key": self.key})

    def inverse(self, change: Change) -> Action[RedisTarget]:
        """The value of before, or no key if there was none; only if it holds what this change left."""
        before = change.before["value"]
        if before is None:
            return delete_key.DeleteKey(key=self.key, only_if=self.value)
        expires = change.before.get("expires_at")
        back = {"key": self.key, "value": before, "only_if": self.value}
        return SetKey.model_validate(back if expires is None else {**back, "expires_at": expires})

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if it holds the value of after, no if that of before, else unknown."""
        async with target.server(key=self.key) as server:
            value, _ = await read_text(server, self.key)
        if change.before["value"] == change.after["value"]:
            return Happened.UNKNOWN
        if value == change.after["value"]:
            return Happened.YES
        return Happened.NO if value == change.before["value"] else Happened.UNKNOWN
