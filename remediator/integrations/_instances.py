"""How many instances of something a rule asks for: absolute in the end, and never downwards by accident."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from remediator.errors import PermanentError

Count = Annotated[int, Field(ge=0, le=1000)]
LITERAL = frozenset({"max", "min", "allow_down"})
"""Parameters that may hold no placeholder: a label never moves a limit."""


class Instances(BaseModel):
    """The parameters of a scaling. Exactly one of ``at_least``, ``at_most``, ``by`` and ``exact`` says how many."""

    at_least: Count | None = Field(default=None, description="Raise to this number; never lowers.")
    at_most: Count | None = Field(default=None, description="Lower to this number; never raises.")
    by: Annotated[int, Field(ge=-1000, le=1000)] | None = Field(
        default=None,
        description="Raise (or, if negative, lower) by this many; the number that comes of it is fixed when the change "
        "is shown.",
    )
    exact: Count | None = Field(default=None, description="Set to this number; lowers only with `allow_down: true`.")
    max: Count | None = Field(default=None, description="Never raise above this; needed to raise at all.")
    min: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="Never lower below this.")
    allow_down: bool = Field(default=False, description="Let `exact` lower.")
    only_from: Count | None = Field(
        default=None, description="Act only if there are exactly this many now; used to take a change back."
    )

    @model_validator(mode="after")
    def _one_number(self) -> Instances:
        given = [name for name in ("at_least", "at_most", "by", "exact") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("write exactly one of at_least, at_most, by and exact")
        number: int = getattr(self, given[0])
        if given[0] == "by" and number == 0:
            raise ValueError("by must not be 0")
        if given[0] in ("at_least", "exact") or (given[0] == "by" and number > 0):
            if self.max is None:
                raise ValueError(f"{given[0]} can raise, so it needs a limit: write max, such as max: {max(number, 2)}")
            if given[0] != "by" and number > self.max:
                raise ValueError(f"{given[0]}: {number} is above max: {self.max}")
            if self.min > self.max:
                raise ValueError(f"min: {self.min} is above max: {self.max}")
        if given[0] in ("at_most", "exact") and number < self.min:
            raise ValueError(f"{given[0]}: {number} is below min: {self.min}; to end all of them, use stop")
        if self.allow_down and given[0] != "exact":
            raise ValueError("allow_down goes with exact; at_most and a negative by always may lower")
        return self

    def wanted(self, current: int) -> int:
        """The absolute number wanted. Raises PermanentError where the rule does not allow the way there."""
        wanted = self._absolute(current)
        if wanted != current and self.only_from is not None and current != self.only_from:
            raise PermanentError(
                f"there are {current} and not the {self.only_from} that this change is made for", reason="changed"
            )
        if wanted < current and self.exact is not None and not self.allow_down:
            raise PermanentError(
                f"{current} → {wanted} would lower it; at_most, or exact with allow_down: true, may do that",
                reason="would_lower",
            )
        return wanted

    def _absolute(self, current: int) -> int:
        if self.at_least is not None:
            return max(current, self.at_least)
        if self.at_most is not None:
            return min(current, self.at_most)
        if self.by is not None and self.by > 0:
            return max(current, min(current + self.by, self.max or 0))
        if self.by is not None:
            return min(current, max(current + self.by, self.min))
        return self.exact or 0
