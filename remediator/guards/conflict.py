"""``conflict``: what one run has just changed, another does not change back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.clock import Duration, format_duration
from remediator.facts import PastChange
from remediator.guard import Guard, GuardContext, Proposed, Verdict


class Conflict(Guard):
    """Holds a run whose change goes against one that another run made on the same thing less than ``within`` ago.

    Against means: a number that went up would go down, or the other way round, and anything else would become what
    it was before. Two rules that pull in opposite directions are a mistake that only people can settle.
    """

    shorthand: ClassVar[str | None] = "within"

    within: Duration = Field(default=1800.0, gt=0, description="How long a change is protected from its opposite.")

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``conflict`` until the other change is old enough."""
        mine = context.change
        if mine is None:
            return Verdict.deny("conflict", "the change is not known, so nothing can be said against it or for it")
        for other in await context.facts.past_changes(mine.target, context.now - self.within):
            if mine.subject and other.subject and mine.subject != other.subject:
                continue
            what = next(opposite(mine, other), None)
            if what is not None:
                message = f'{mine.summary} goes against {what}, which rule "{other.rule}" changed'
                until = other.licensed_at + self.within
                return Verdict.hold("conflict", f"{message} less than {format_duration(self.within)} ago", until)
        return Verdict.allow()

    def looks_back(self) -> float:
        """The window."""
        return self.within


def opposite(mine: Proposed, other: PastChange) -> Iterator[str]:
    """The values that one change moves in one direction and the other back, by their names."""
    before, after = dict(_flat(mine.before)), dict(_flat(mine.after))
    was, became = dict(_flat(other.before)), dict(_flat(other.after))
    for name in sorted((before.keys() | after.keys()) & (was.keys() | became.keys())):
        here, there = (before.get(name), after.get(name)), (was.get(name), became.get(name))
        if here[0] == here[1] or there[0] == there[1]:
            continue
        mine_by, other_by = _step(*here), _step(*there)
        if mine_by is None or other_by is None:
            against = here[1] == there[0]
        else:
            against = (mine_by > 0) != (other_by > 0)
        if against:
            yield name


def _step(before: Any, after: Any) -> float | None:
    """By how much a number moves; None where it is none."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (before, after)):
        return None
    return float(after - before)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value
