"""``change_window``: changes only when they are allowed, and never during a freeze."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from remediator.clock import format_instant
from remediator.guard import Guard, GuardContext, Verdict
from remediator.guards._calendar import DAY, Freeze, Interval, Zone, edges, zone

_AHEAD = 400
"""Days that are searched for the next moment at which changes are allowed."""


class ChangeWindow(Guard):
    """Holds a run outside the intervals of ``allow``, and inside those of ``freeze``, until that is over.

    Intervals are written as Alertmanager's `time_intervals`. In the settings it is the freeze calendar of every
    rule. An hour that a time zone repeats in autumn is inside twice; one that it skips in spring is never.
    """

    allow: list[Interval] = Field(default_factory=list, description="When changes are allowed; always if absent.")
    freeze: list[Freeze] = Field(default_factory=list, description="When they are not, whatever `allow` says.")
    location: Zone = Field(default="UTC", description="IANA time zone of intervals that name none: `Europe/Berlin`.")

    @model_validator(mode="after")
    def _something(self) -> ChangeWindow:
        if not self.allow and not self.freeze:
            raise ValueError("without intervals changes are always allowed; write allow or freeze")
        return self

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``change_window`` until changes are allowed again."""
        why = self.closed(context.now)
        if not why:
            return Verdict.allow()
        until = self.opens(context.now)
        if until is None:
            return Verdict.hold("change_window", f"{why}, and no end is in sight", context.now + DAY)
        again = f"changes are allowed again at {format_instant(until)[:19]}Z"
        return Verdict.hold("change_window", f"{why}; {again}", until)

    def closed(self, at: float) -> str:
        """Why nothing may be changed at an instant, or an empty text."""
        default = zone(self.location)
        for freeze in self.freeze:
            if freeze.holds(at, default):
                return "changes are frozen" + (f": {freeze.reason}" if freeze.reason else "")
        if self.allow and not any(interval.holds(at, default) for interval in self.allow):
            return "it is outside the times in which changes are allowed"
        return ""

    def opens(self, now: float) -> float | None:
        """The next instant at which changes are allowed, to the second; None if there is none for over a year."""
        default, intervals = zone(self.location), list[Interval]([*self.allow, *self.freeze])
        for start in _days(now):
            for at in edges(intervals, default, start, start + DAY):
                if not self.closed(at):
                    return at
        return None


def _days(now: float) -> Sequence[float]:
    return [now + day * DAY for day in range(_AHEAD)]
