"""``approval``: a person must have said yes to exactly the change that is about to be made."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import Field, PrivateAttr, field_validator

from remediator.clock import Duration
from remediator.expression import Expression, ExpressionError
from remediator.guard import Guard, GuardContext, Verdict

_READS = frozenset({"probes", "labels", "severity"})
_PROBE = re.compile(r"\bprobes\s*\.\s*([A-Za-z_]\w*)")


class Approval(Guard):
    """Holds a run until ``needed`` people have approved the change that was shown to them.

    An approval is bound to the digest of that change: when the target has moved on in the meantime and the
    change would be another one, it does not count and the new change is shown.
    """

    needed: int = Field(default=1, description="How many different people must approve.")
    expires: Duration = Field(default=900.0, description="How long the question stays open; the run then expires.")
    four_eyes: bool = Field(
        default=False, description="At least two people, and a yes of the user who is the rule's owner does not count."
    )
    unless: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="CEL over probes, labels and severity: nobody is asked while this is so. What is unknown asks.",
    )

    _excuse: Expression | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Compile the condition. Raises ValueError with what to write."""
        if self.unless is not None:
            try:
                self._excuse = Expression.compile(self.unless, _READS, probes=self.reads())
            except ExpressionError as error:
                raise ValueError(str(error)) from None

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

    @property
    def people(self) -> int:
        """How many different people must approve."""
        return max(self.needed, 2) if self.four_eyes else self.needed

    def together(self, other: Approval) -> Approval:
        """What both guards ask: as many people and as long as the one that asks more, four eyes if either does."""
        more = other if other.people > self.people else self
        return more.model_copy(update={"four_eyes": self.four_eyes or other.four_eyes})

    def reads(self) -> Collection[str]:
        """The probes that ``unless`` names."""
        return sorted(set(_PROBE.findall(self.unless or "")))

    def excused(self, context: GuardContext) -> bool:
        """Whether nobody need be asked now. In mode approve somebody always is."""
        if self._excuse is None or context.mode == "approve":
            return False
        seen = {name: each["value"] for name, each in context.evidence.items() if each.get("ok")}
        try:
            return self._excuse.evaluate(
                {"probes": seen, "labels": dict(context.labels), "severity": context.severity}
            )
        except ExpressionError:
            return False

    async def check(self, context: GuardContext) -> Verdict:
        """Allow once approved; until then hold with reason ``approval``."""
        if context.approved:
            return Verdict.allow("approved")
        if self.excused(context):
            return Verdict.allow(f"nobody need be asked: {self.unless}")
        people = "somebody" if self.people == 1 else f"{self.people} people"
        return Verdict.hold("approval", f"waits for {people} to approve the change")
