"""``max_attempts``: after so many runs for one problem, a person must take over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from remediator.clock import Duration, format_duration
from remediator.guard import Guard, GuardContext, Limit, Verdict


class MaxAttempts(Guard):
    """Denies a run when ``runs`` other ones for the same problem were allowed to act within ``per``.

    The problem is the incident's key, so a problem that resolved and came back counts on. Unlike ``rate_limit`` it
    does not wait: the run ends, and whoever is on call is told. The licence transaction counts once more, so two
    runs at the same moment cannot both pass.
    """

    shorthand: ClassVar[str | None] = "runs"

    runs: int = Field(default=2, ge=1, le=100, description="How many runs may act on one problem within `per`.")
    per: Duration = Field(default=21600.0, gt=0, description="The length of the sliding window.")

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or deny with reason ``max_attempts``."""
        since = context.now - self.per
        tried = [run for run in await context.facts.past_runs("incident", since) if run.licensed_at > since]
        if len(tried) < self.runs:
            return Verdict.allow()
        message = f"{len(tried)} runs have acted on this problem within {format_duration(self.per)}"
        return Verdict.deny("max_attempts", f"{message}; at most {self.runs} may, and a person must look")

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """The same, counted exactly."""
        return (Limit(guard="max_attempts", scope="incident", runs=self.runs, window=self.per),)
