"""``redis.circuit_breaker_reset``: close one circuit breaker that a service keeps in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, StringConstraints, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import format_duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis._names import Value
from remediator.integrations.redis.target import Breaker, Name, RedisTarget

if TYPE_CHECKING:
    from remediator.integrations.redis._server import Server

_CHANGE = """
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
for i = 1, #ARGV, 3 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
return 1
"""


class CircuitBreakerReset(Action[RedisTarget]):
    """Closes one breaker, only if it is open and has been for the time after which it could half-open by itself.

    Closing a breaker before the cause is gone opens it again at once: look at the dependency in the rule's ``if``.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"breaker"})

    breaker: Name = Field(description="The kind of breaker, by its name in the settings of the target.")
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$")] = Field(
        description="What broke: one word, put where the settings say `{id}`."
    )
    restore: dict[str, Value] | None = Field(
        default=None, min_length=1, description="Fields as they were before; taking a change back uses it."
    )
    only_if: dict[str, Value] | None = Field(
        default=None, min_length=1, description="Fields as they must be now; taking a change back uses it."
    )

    @model_validator(mode="after")
    def _both(self) -> CircuitBreakerReset:
        if (self.restore is None) != (self.only_if is None) or set(self.restore or ()) != set(self.only_if or ()):
            raise ValueError("restore and only_if belong together and name the same fields")
        return self

    def needs(self) -> Mapping[str, str]:
        """The kind of breaker must be permitted."""
        return {"breakers": self.breaker}

    def subject(self) -> str:
        """The one breaker."""
        return f"breaker/{self.breaker}/{self.id}"

    def _settings(self, target: RedisTarget) -> tuple[Breaker, str]:
        settings = target.breakers.get(self.breaker)
        if settings is None:
            known = ", ".join(sorted(target.breakers)) or "none"
            raise PermanentError(f'the target has no breaker "{self.breaker}"; it has {known}', reason="breaker")
        return settings, settings.key.replace("{id}", self.id)

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """Its fields now and closed. Raises TemporaryError while it is too early, PermanentError if it is not open."""
        settings, key = self._settings(target)
        wanted = {settings.state: settings.closed}
        if settings.failures is not None:
            wanted[settings.failures] = "0"
        if self.restore is not None:
            if not set(self.restore) <= set(wanted):
                raise PermanentError("restore names other fields than the settings", reason="fields")
            wanted = self.restore
        async with target.server(key=key) as server:
            now = await _fields(server, key, [*wanted, settings.opened_at])
            seconds = int((await server.ask("TIME"))[0])
        before = {name: now[name] for name in wanted}
        if before != wanted:
            if self.only_if is None:
                self._may_close(settings, now, seconds)
            elif before != self.only_if:
                raise PermanentError(f"{self.id}: it is not what this change is made for", reason="changed")
        opened = {} if self.restore is not None else {settings.opened_at: now[settings.opened_at]}
        summary = f"close {self.breaker} of {self.id}" if self.restore is None else f"{self.breaker} of {self.id} back"
        return Change(summary=summary, before={**before, **opened}, after={**wanted, **opened})

    def _may_close(self, settings: Breaker, now: Mapping[str, str | None], seconds: int) -> None:
        state, opened = now[settings.state], now[settings.opened_at]
        if state is None:
            raise PermanentError(f"there is no breaker of {self.id}", reason="no_breaker")
        if settings.failures is not None and not _is_count(now[settings.failures]):
            raise PermanentError(f"{self.id}: {settings.failures} is no count, as the settings say", reason="fields")
        if state != settings.open:
            raise PermanentError(f"{self.id} is {state[:100]} and not {settings.open}", reason="not_open")
        try:
            since = float(opened or "")
        except ValueError:
            raise PermanentError(f"{self.id} does not say when it opened", reason="opened_at") from None
        since = since / 1000 if since > 1e11 else since
        # `not >=` also refuses NaN.
        if not seconds - since >= settings.wait:
            raise TemporaryError(
                f"{self.id} opened less than {format_duration(settings.wait)} ago; it may half-open by itself",
                reason="too_early",
            )

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Change the fields, if they still are as shown; look and change are one for Redis."""
        _, key = self._settings(target)
        words = [word for name, value in change.before.items() for word in (name, value, change.after[name])]
        async with target.server(key=key) as server:
            done = await server.act_script(context.check_deadline, _CHANGE, [key], *words)
        if not done:
            raise TemporaryError(f"{self.id} has changed since it was looked at", reason="conflict")
        return Outcome(summary=change.summary, data=dict(change.after))

    async def verify(self, target: RedisTarget, change: Change, context: ActionContext) -> None:
        """Returns if it is as it was left. Raises PermanentError if it has opened again."""
        settings, key = self._settings(target)
        async with target.server(key=key) as server:
            state = (await _fields(server, key, [settings.state]))[settings.state]
        if state != change.after[settings.state]:
            raise PermanentError(f"{self.id} is {str(state)[:100]} again; its cause is not gone", reason="open_again")

    def inverse(self, change: Change) -> CircuitBreakerReset | None:
        """The fields of before, only if they are those of after."""
        if self.restore is not None:
            return None
        names = [name for name in change.before if change.before[name] != change.after[name]]
        if not names:
            return None
        return CircuitBreakerReset(
            breaker=self.breaker,
            id=self.id,
            restore={name: str(change.before[name]) for name in names},
            only_if={name: str(change.after[name]) for name in names},
        )

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the fields are those of after, no if those of before, else unknown."""
        _, key = self._settings(target)
        async with target.server(key=key) as server:
            now = await _fields(server, key, list(change.after))
        if now == dict(change.after):
            return Happened.YES
        return Happened.NO if now == dict(change.before) else Happened.UNKNOWN


def _is_count(text: str | None) -> bool:
    """Whether it can be put back as it was: whole numbers can, whatever else stands there may not."""
    return text is not None and text.isascii() and text.isdigit() and len(text) <= 20


async def _fields(server: Server, key: str, names: list[str]) -> dict[str, str | None]:
    """The fields of a hash; None for each that there is not."""
    values = await server.ask("HMGET", key, *names)
    return {
        name: None if value is None else value.decode(errors="replace")
        for name, value in zip(names, values, strict=True)
    }
