"""``backoff``: each failure makes the next try of the same thing wait longer."""

from __future__ import annotations

from pydantic import Field, model_validator

from remediator.clock import Duration, format_duration
from remediator.guard import Guard, GuardContext, Scope, Verdict
from remediator.guards._failing import streak


class Backoff(Guard):
    """Holds a run after failed ones of its scope: ``first`` after one failure, ``factor`` times longer for each more.

    Counted from the end of the last run. A run that succeeded makes the next failure the first again; so does the
    time ``forget``. What did not help counts as failed.
    """

    first: Duration = Field(default=60.0, gt=0, description="How long to wait after one failure.")
    factor: float = Field(default=2.0, ge=1, le=10, description="How many times longer to wait for each failure more.")
    at_most: Duration = Field(default=3600.0, gt=0, description="The longest wait.")
    forget: Duration = Field(default=86400.0, gt=0, description="Failures that are older do not count.")
    scope: Scope = Field(default="incident", description="Whose failures count; `incident` is this very problem.")

    @model_validator(mode="after")
    def _in_order(self) -> Backoff:
        if self.at_most < self.first:
            raise ValueError("at_most is shorter than first; the first wait would never be as long as it says")
        return self

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``backoff`` until the wait is over."""
        since = context.now - self.forget
        bad = [run for run in streak(await context.facts.past_runs(self.scope, since)) if (run.over_at or 0.0) > since]
        if not bad:
            return Verdict.allow()
        wait = self.wait(len(bad))
        until = max(run.over_at or 0.0 for run in bad) + wait
        if until <= context.now:
            return Verdict.allow()
        times = "once" if len(bad) == 1 else f"{len(bad)} times in a row"
        return Verdict.hold("backoff", f"failed {times}; waits {format_duration(wait)} after the last", until)

    def wait(self, failures: int) -> float:
        """How many seconds to wait after so many failures in a row."""
        return min(self.at_most, self.first * self.factor ** min(failures - 1, 64))

    def looks_back(self) -> float:
        """As long as failures are remembered."""
        return self.forget
