"""``flap``: a problem that comes and goes is not treated each time it comes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.clock import Duration, format_duration
from remediator.guard import Guard, GuardContext, Verdict


class Flap(Guard):
    """Holds a run when the same problem has begun more than ``lives`` times within ``within``, this time included.

    What comes back every few minutes is not mended by doing the same again: it waits until it has calmed down, or
    until the run is too old and a person is told.
    """

    shorthand: ClassVar[str | None] = "lives"

    lives: int = Field(default=3, ge=1, le=100, description="How often the problem may begin within `within`.")
    within: Duration = Field(default=1800.0, gt=0, description="The length of the sliding window.")

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``flap`` until one of the beginnings is older than the window."""
        begun = sorted(await context.facts.lives(self.lives + 1), reverse=True)
        # Of the newest beginnings the oldest decides: once it has left the window few enough are in it.
        if len(begun) <= self.lives or begun[self.lives] <= context.now - self.within:
            return Verdict.allow()
        message = f"began more than {self.lives} times within {format_duration(self.within)}: it flaps"
        return Verdict.hold("flap", message, begun[self.lives] + self.within)

    def looks_back(self) -> float:
        """The window."""
        return self.within
