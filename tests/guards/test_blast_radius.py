"""blast_radius: shares rounded down, unknown and empty fleets denied, and what others hit counts as well."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, Limit
from remediator.guards.blast_radius import BlastRadius, Bounds, left, may_hit
from tests.guards.context import context, seen


def guard(**more: Any) -> BlastRadius:
    """Bounds on the fleet that the probe ``w`` tells."""
    return BlastRadius.model_validate({"fleet": "probes.w.desired", **more})


def test_a_hundred_thousand_fleets() -> None:
    """For any fleet and any bounds what may be hit is never above a bound, never above the fleet, and the most."""
    dice = random.Random(21)
    for _ in range(100_000):
        fleet = dice.choice((0, 1, 2, 3, dice.randrange(1000), dice.randrange(10**9)))
        share = dice.choice((None, dice.randrange(1, 101) / 100))
        most = dice.choice((None, dice.randrange(1, 1000)))
        hit = may_hit(fleet, Bounds(share, most, None))
        exact = None if share is None else Fraction(round(share * 100), 100) * fleet
        assert 0 <= hit <= fleet
        assert exact is None or hit <= exact
        assert most is None or hit <= most
        reached = (hit == fleet, exact is not None and hit + 1 > exact, hit == most)
        assert any(reached)


@pytest.mark.parametrize(
    ("fleet", "bounds", "decision"),
    [
        (10, {"max_share": 0.1}, Decision.ALLOW),
        (9, {"max_share": 0.1}, Decision.DENY),
        (1, {"max_share": 0.99}, Decision.DENY),
        (1, {"max_share": 1.0}, Decision.ALLOW),
        (100, {"max_share": 0.29, "affects": 29}, Decision.ALLOW),
        (100, {"max_share": 0.29, "affects": 30}, Decision.DENY),
        (100, {"max_count": 2, "affects": 2}, Decision.ALLOW),
        (100, {"max_count": 2, "affects": 3}, Decision.DENY),
        (1, {"max_count": 2, "affects": 2}, Decision.DENY),
        (0, {"max_count": 2}, Decision.DENY),
        (0, {"max_share": 1.0}, Decision.DENY),
    ],
)
async def test_too_much_is_denied(fleet: int, bounds: dict[str, Any], decision: Decision) -> None:
    """At the bound the run may act, above it not; of nothing, and more than there is, never."""
    verdict = await guard(**bounds).check(context(evidence=seen(w={"desired": fleet})))
    assert verdict.decision is decision
    assert decision is Decision.ALLOW or verdict.reason == "blast_radius"


@pytest.mark.parametrize(
    "evidence",
    [{}, seen(w="refused"), seen(w={}), seen(w={"desired": None}), seen(w={"desired": "5"}), seen(w={"desired": True}),
     seen(w={"desired": -1}), seen(w={"desired": 2.5}), seen(w={"desired": float("nan")}), seen(w=[1]),
     seen(v={"desired": 5})],
)  # fmt: skip
async def test_what_is_not_known_is_denied(evidence: dict[str, Any]) -> None:
    """No probe, a failed one, and what is no whole number: nothing is hit, and no run fits into the limit."""
    made = guard(max_count=5)
    assert (await made.check(context(evidence=evidence))).decision is Decision.DENY
    assert [limit.runs for limit in made.limits(context(evidence=evidence))] == [0]


@pytest.mark.parametrize(("healthy", "held"), [(5, False), (4, True), (0, True)])
async def test_enough_must_be_left_working(healthy: int, held: bool) -> None:
    """One too few holds the run, which looks again; the worst case counts, that all that is hit was working."""
    made = guard(healthy="probes.w.ready", min_healthy=3, affects=2)
    verdict = await made.check(context(evidence=seen(w={"desired": 6, "ready": healthy})))
    assert verdict.decision is (Decision.HOLD if held else Decision.ALLOW)
    assert made.limits(context(evidence=seen(w={"desired": 6, "ready": healthy}))) == ()
    assert left(healthy, 2) == healthy - 2


async def test_a_path_says_how_many_are_hit() -> None:
    """What a probe counted is what counts; none at all is not believed."""
    made = guard(max_share=0.5, affects="probes.p.count")
    assert (await made.check(context(evidence=seen(w={"desired": 4}, p={"count": 2})))).decision is Decision.ALLOW
    for count in (3, 0, None):
        evidence = seen(w={"desired": 4}, p={"count": count})
        assert (await made.check(context(evidence=evidence))).decision is Decision.DENY
    assert made.reads() == {"w", "p"}


def test_others_within_the_window_count() -> None:
    """As many runs as fit together: a quarter of ten hit two at a time is one run, counted in the licence."""
    evidence = seen(w={"desired": 10})
    (one,) = guard(max_share=0.25, affects=2, per="30m", scope="target").limits(context(evidence=evidence))
    assert one == Limit(guard="blast_radius", scope="target", runs=1, window=1800.0)
    (many,) = guard(max_share=0.5, max_count=4).limits(context(evidence=evidence))
    assert (many.runs, many.window) == (4, 3600.0)


@pytest.mark.parametrize("parameters", [
    {}, {"max_share": 0.0}, {"max_share": 1.1}, {"max_share": -0.1}, {"max_count": 0}, {"max_count": 2.0},
    {"min_healthy": 1}, {"healthy": "probes.w.ready"}, {"max_count": 1, "affects": 0}, {"max_count": 1, "affects": "w"},
    {"max_count": 1, "fleet": "desired"}, {"max_count": 1, "fleet": "probes.w"}, {"max_count": 1, "per": "0s"},
])  # fmt: skip
def test_bounds_that_make_no_sense_are_refused(parameters: dict[str, Any]) -> None:
    """No bound, one that is out of range, and a path that leads nowhere are refused when rules load."""
    with pytest.raises(ValidationError):
        BlastRadius.model_validate({"fleet": "probes.w.desired", **parameters})
