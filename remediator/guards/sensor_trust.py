"""``sensor_trust``: nothing is done on the word of sensors that may be broken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from remediator.clock import Duration, format_duration
from remediator.guard import Guard, GuardContext, Verdict
from remediator.guards._evidence import Path, Unknown, number, probe_of, value
from remediator.guards._matching import checked


class SensorTrust(Guard):
    """Holds a run unless the alert that always fires was told lately, series are fresh and their sources up.

    Silence of the alert that always fires means that the path from Prometheus to here is broken, and an alert that
    came this way may be old. ``fresh`` and ``up`` are read from the evidence of probes; unknown is no.
    """

    shorthand: ClassVar[str | None] = "watchdog"

    watchdog: list[str] | None = Field(
        default=None, max_length=20,
        description="Matchers of the alert that always fires: `[alertname=\"Watchdog\"]`.",
    )  # fmt: skip
    seen_within: Duration = Field(
        default=900.0, ge=30,
        description="How long ago it may have been told last; more than Alertmanager's `repeat_interval` for it.",
    )  # fmt: skip
    fresh: list[Path] = Field(
        default_factory=list, description="Where ages of series in seconds stand: `probes.queue_age.value`."
    )
    max_age: Duration = Field(default=300.0, gt=0, description="How old the series of `fresh` may be.")
    up: list[Path] = Field(
        default_factory=list, description="Where sources say that they are up: true, or a number that is not 0."
    )

    @field_validator("watchdog", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("watchdog")
    @classmethod
    def _matchers(cls, texts: list[str] | None) -> list[str] | None:
        return None if texts is None else checked(texts)

    @model_validator(mode="after")
    def _something(self) -> SensorTrust:
        if not (self.watchdog or self.fresh or self.up):
            raise ValueError("nothing is looked at; write watchdog, fresh or up")
        return self

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``sensor_trust`` and look again soon."""
        doubt = await self._silent(context) or self._old(context)
        return Verdict.hold("sensor_trust", doubt) if doubt else Verdict.allow()

    async def _silent(self, context: GuardContext) -> str:
        if self.watchdog is None:
            return ""
        seen = [alert.seen_at for alert in await context.facts.firing(self.watchdog)]
        if not seen:
            return f"{', '.join(self.watchdog)} does not fire, which it always should"
        if max(seen) < context.now - self.seen_within:
            ago = format_duration(round(context.now - max(seen)))
            return f"{', '.join(self.watchdog)} was last told {ago} ago: the way from the sensors may be broken"
        return ""

    def _old(self, context: GuardContext) -> str:
        try:
            for path in self.fresh:
                age = number(context, path)
                if not 0 <= age <= self.max_age:
                    return f"{path} is {format_duration(age)}; at most {format_duration(self.max_age)} is trusted"
            for path in self.up:
                if not _is_up(value(context, path)):
                    return f"{path} is not up"
        except Unknown as why:
            return f"it is not known whether the sensors work: {why}"
        return ""

    def watches(self) -> Sequence[str]:
        """The alert that always fires."""
        return () if self.watchdog is None else (", ".join(self.watchdog),)

    def reads(self) -> Collection[str]:
        """The probes that its paths lead into."""
        return {probe_of(path) for path in (*self.fresh, *self.up)}


def _is_up(found: object) -> bool:
    return found is True or (isinstance(found, int | float) and not isinstance(found, bool) and found > 0)
