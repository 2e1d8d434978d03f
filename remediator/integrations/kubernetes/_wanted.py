"""How many replicas a scaling wants, or which limits of an autoscaler: pure, and never downwards by accident."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.errors import PermanentError
from remediator.integrations.kubernetes._autoscaler import Limits


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the rule asks for; exactly one of the first four is given, ``floor`` and ``ceiling`` bound it."""

    at_least: int | None
    at_most: int | None
    by: int | None
    exact: int | None
    floor: int
    ceiling: int | None
    allow_down: bool
    from_zero: bool
    only_from: int | None

    def replicas(self, current: int) -> int:
        """The absolute number wanted. Raises PermanentError where the rule does not allow the way there."""
        wanted = self._absolute(current)
        if wanted == current:
            return current
        if self.only_from is not None and current != self.only_from:
            raise PermanentError(
                f"it has {current} replicas and not the {self.only_from} that this change is made for",
                reason="changed",
            )
        if current == 0 and not self.from_zero:
            raise PermanentError(
                "it is scaled to 0, which somebody did on purpose; from_zero: true raises it nevertheless",
                reason="scaled_to_zero",
            )
        if wanted < current and not self.allow_down:
            raise PermanentError(
                f"{current} → {wanted} would lower it; at_most, or exact with allow_down: true, may do that",
                reason="would_lower",
            )
        return wanted

    def _absolute(self, current: int) -> int:
        ceiling = current if self.ceiling is None else self.ceiling
        if self.at_least is not None:
            return max(current, min(self.at_least, ceiling))
        if self.at_most is not None:
            return min(current, max(self.at_most, self.floor))
        if self.by is not None:
            if self.by > 0:
                return max(current, min(current + self.by, ceiling))
            return min(current, max(current + self.by, self.floor))
        assert self.exact is not None  # noqa: S101
        return self.exact

    def limits(self, now: Limits, current: int) -> Limits:
        """The limits of an autoscaler that give what is wanted of the replicas, which are ``current`` now.

        Raising moves the lower limit, and the upper one only as far as it must; lowering the other way round.
        Raises PermanentError where limits cannot say it.
        """
        if self.exact is not None:
            raise PermanentError(
                "an autoscaler moves between limits and cannot hold an exact number; write at_least or at_most",
                reason="hpa_owned",
            )
        ceiling = now.most if self.ceiling is None else self.ceiling
        if self.at_least is not None or (self.by or 0) > 0:
            wish = self.at_least if self.at_least is not None else current + (self.by or 0)
            least = max(now.least, min(wish, ceiling))
            return Limits(least, max(now.most, least))
        wish = self.at_most if self.at_most is not None else current + (self.by or 0)
        most = min(now.most, max(wish, self.floor, 1))
        return Limits(min(now.least, most), most)
