"""``blast_radius``: never too much of a fleet at once, and never of a fleet whose size is unknown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from pydantic import Field, model_validator

from remediator.clock import Duration
from remediator.guard import Guard, GuardContext, Limit, Scope, Verdict
from remediator.guards._evidence import Path, Unknown, count, probe_of


class Bounds(NamedTuple):
    """How much of a fleet may be hit at once."""

    max_share: float | None
    max_count: int | None
    min_healthy: int | None


def may_hit(fleet: int, bounds: Bounds) -> int:
    """How many of ``fleet`` things may be hit within a window: the lowest of the bounds, rounded down."""
    most = fleet
    if bounds.max_share is not None:
        # As it was written: 0.29 of 100 is 29, which binary fractions would make 28.
        most = min(most, int(Fraction(repr(bounds.max_share)) * fleet))
    if bounds.max_count is not None:
        most = min(most, bounds.max_count)
    return most


def left(healthy: int, affects: int) -> int:
    """How many stay healthy in the worst case: everything that is hit was healthy."""
    return healthy - affects


class BlastRadius(Guard):
    """Denies a run that would hit more of a fleet than its bounds allow, and one whose fleet is unknown or empty.

    The fleet is read from the evidence of a probe of the rule, taken right before. With ``max_share`` and
    ``max_count`` other runs of the same scope that acted within ``per`` count as hitting as many things each;
    this is counted in the licence transaction. ``min_healthy`` holds the run until enough are healthy.
    """

    fleet: Path = Field(description="Where the number of all things stands: `probes.workers.desired`.")
    healthy: Path | None = Field(default=None, description="Where the working ones are counted; for `min_healthy`.")
    affects: int | Path = Field(default=1, description="How many things the run hits: a number, or a path as above.")
    max_share: float | None = Field(default=None, gt=0, le=1, description="The largest share of the fleet, like 0.25.")
    max_count: int | None = Field(default=None, ge=1, description="The largest number of things.")
    min_healthy: int | None = Field(default=None, ge=0, description="How many must be left working.")
    per: Duration = Field(default=3600.0, gt=0, description="How long a thing that was hit counts as hit.")
    scope: Scope = Field(default="rule", description="Whose runs count beside this one.")

    @model_validator(mode="after")
    def _bounded(self) -> BlastRadius:
        if self.max_share is None and self.max_count is None and self.min_healthy is None:
            raise ValueError("without a bound nothing is guarded; write max_share, max_count or min_healthy")
        if (self.min_healthy is None) != (self.healthy is None):
            raise ValueError("min_healthy and healthy go together; healthy says where the working ones are counted")
        if isinstance(self.affects, int) and self.affects < 1:
            raise ValueError("a run that affects nothing needs no guard; write 1 or more")
        return self

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self.max_share, self.max_count, self.min_healthy)

    def _hits(self, context: GuardContext) -> int:
        hits = self.affects if isinstance(self.affects, int) else count(context, self.affects)
        if hits < 1:
            raise Unknown(f"{self.affects} is 0, so it is not known what the run hits")
        return hits

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, hold while too few are healthy, or deny: too much, or not known how much."""
        try:
            fleet, hits = count(context, self.fleet), self._hits(context)
            healthy = None if self.healthy is None else count(context, self.healthy)
        except Unknown as why:
            return Verdict.deny("blast_radius", f"it is not known how much would be hit: {why}")
        if fleet == 0:
            return Verdict.deny("blast_radius", f"{self.fleet} is 0: of nothing no share can be told")
        most = may_hit(fleet, self._bounds)
        if hits > most:
            return Verdict.deny("blast_radius", f"would hit {hits} of {fleet}; at most {most} may be hit")
        if healthy is not None and self.min_healthy is not None and left(healthy, hits) < self.min_healthy:
            message = f"{healthy} of {fleet} are healthy and {hits} would be hit; {self.min_healthy} must be left"
            return Verdict.hold("blast_radius", message)
        return Verdict.allow()

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """As many runs within ``per`` as fit into the bounds together."""
        if self.max_share is None and self.max_count is None:
            return ()
        try:
            runs = may_hit(count(context, self.fleet), self._bounds) // self._hits(context)
        except Unknown:
            runs = 0  # ``check`` has denied; whoever asks without it gets nothing either.
        return (Limit(guard="blast_radius", scope=self.scope, runs=runs, window=self.per),)

    def reads(self) -> Collection[str]:
        """The probes that its paths lead into."""
        paths = [self.fleet, self.healthy, self.affects]
        return {probe_of(path) for path in paths if isinstance(path, str)}
