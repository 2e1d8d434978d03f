"""``cooldown``: leave the same thing alone for a while after a run has acted on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Limit, Scope, Verdict


class Cooldown(Guard):
    """Holds a run while another one of the same scope acted less than ``for`` ago.

    Counted from the end of the other run's last effect, in the licence transaction; a run that is acting
    counts as just ended. Failed runs count too: what failed is not tried again at once.
    """

    shorthand: ClassVar[str | None] = "for"

    for_: Duration = Field(alias="for", description="How long after the end of the last effect nothing is done.")
    scope: Scope = Field(
        default="rule",
        description="Whose effects count: of this `rule`, this `incident`, on this `target`, or all (`global`).",
    )

    @field_validator("for_")
    @classmethod
    def _long_enough(cls, seconds: float) -> float:
        if seconds <= 0:
            raise ValueError("a cooldown of nothing guards nothing; write a time like 10m, or leave it out")
        return seconds

    async def check(self, context: GuardContext) -> Verdict:
        """Allow: the limit decides, inside the licence transaction."""
        return Verdict.allow()

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """No effect of the scope may have ended within the window or be under way."""
        return (Limit(guard="cooldown", scope=self.scope, runs=1, window=self.for_, since="end"),)
