"""``approval``: a person must have said yes to exactly the change that is about to be made."""

from __future__ import annotations

from pydantic import Field, field_validator

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Verdict


class Approval(Guard):
    """Holds a run until ``needed`` people have approved the change that was shown to them.

    An approval is bound to the digest of that change: when the target has moved on in the meantime and the
    change would be another one, it does not count and the new change is shown.
    """

    needed: int = Field(default=1, description="How many different people must approve.")
    expires: Duration = Field(default=900.0, description="How long the question stays open; the run then expires.")

    @field_validator("needed")
    @classmethod
    def _somebody(cls, needed: int) -> int:
        if not 1 <= needed <= 10:
            raise ValueError("an approval needs 1 to 10 people; leave the guard out if nobody is to be asked")
        return needed

    @field_validator("expires")
    @classmethod
    def _some_time(cls, seconds: float) -> float:
        if seconds <= 0:
            raise ValueError("an approval that expires at once can never be given; write a time like 15m")
        return seconds

    async def check(self, context: GuardContext) -> Verdict:
        """Allow once approved; until then hold with reason ``approval``."""
        if context.approved:
            return Verdict.allow("approved")
        people = "somebody" if self.needed == 1 else f"{self.needed} people"
        return Verdict.hold("approval", f"waits for {people} to approve the change")
