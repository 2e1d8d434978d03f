"""``rate_limit``: at most so many runs may act in any period of a length."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Limit, Scope, Verdict


class RateLimit(Guard):
    """Holds a run while ``runs`` other ones of the same scope were allowed to act within ``per``.

    Counted over a sliding window in the licence transaction, from the ledger that the audit shows. Runs that
    failed count too. It may stand several times: three an hour and five a day.
    """

    runs: int = Field(description="How many runs may act within `per`.")
    per: Duration = Field(description="The length of the sliding window.")
    scope: Scope = Field(
        default="rule",
        description="Whose runs count: of this `rule`, this `incident`, on this `target`, or all (`global`).",
    )

    @field_validator("runs")
    @classmethod
    def _some(cls, runs: int) -> int:
        if runs < 1:
            raise ValueError("a limit of no runs stops the rule for ever; write mode: observe if that is meant")
        return runs

    @field_validator("per")
    @classmethod
    def _long_enough(cls, seconds: float) -> float:
        if seconds <= 0:
            raise ValueError("a window of nothing limits nothing; write its length, like 1h")
        return seconds

    async def check(self, context: GuardContext) -> Verdict:
        """Allow: the limit decides, inside the licence transaction."""
        return Verdict.allow()

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """At most ``runs`` of the scope within the window."""
        return (Limit(guard="rate_limit", scope=self.scope, runs=self.runs, window=self.per),)
