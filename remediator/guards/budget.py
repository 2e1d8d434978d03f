"""``budget``: how much of one service may be disturbed at once, whatever its targets are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Limit, Verdict


class Budget(Guard):
    """Holds a run while ``runs`` other ones of its service act, or ended less than ``settle`` ago.

    A restart here and a scaling there disturb the same users: the rules of one service share the budget, whatever
    they act on. Counted in the licence transaction, so it is never exceeded. ``disruption_budget`` of a service in
    the settings gives this guard to each of its rules.
    """

    shorthand: ClassVar[str | None] = "runs"

    runs: int = Field(default=1, ge=1, le=1000, description="How many runs of the service may disturb it at once.")
    settle: Duration = Field(default=600.0, gt=0, description="How long after its end a run still counts.")

    async def check(self, context: GuardContext) -> Verdict:
        """Allow: the limit decides. Deny where there is no service whose budget it could be."""
        if not context.service:
            return Verdict.deny("budget", "the rule belongs to no service, so it has no budget; write service:")
        return Verdict.allow()

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """At most ``runs`` of the service's rules together."""
        return (
            Limit(
                guard="budget",
                scope="service",
                runs=self.runs,
                window=self.settle,
                since="end",
                service=context.service,
                rules=tuple(context.siblings),
            ),
        )
