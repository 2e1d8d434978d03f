"""storm: what begins one, to the alert; what ends one, to the second; and how little is done before it is seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.facts import OpenedRun
from remediator.guard import Decision, Limit
from remediator.guards.storm import Storm
from remediator.run import State
from tests.engine_world import Outside, house, place
from tests.guards.context import NOW, Said, context

STORM = Storm()


def problems(count: int, *, at: float = NOW, every: float = 0.0, rules: int = 1) -> list[OpenedRun]:
    """New problems, the last at ``at``, of so many rules in turn."""
    return [OpenedRun(at - every * n, f"incident {at} {n}", f"rule {n % rules}") for n in range(count)]


@pytest.mark.parametrize(
    ("new", "usual", "storm"),
    [(9, 0, False), (10, 0, True), (10, 2 * 288, False), (11, 2 * 288, True), (10, 2 * 288 - 1, True),
     (500, 99 * 288, True)],
)
async def test_many_new_problems_are_a_storm(new: int, usual: int, storm: bool) -> None:
    """Ten within five minutes, if that is more than five times what the day before was like."""
    verdict = await STORM.check(context(Said(new=problems(new), usual=usual)))
    assert verdict.decision is (Decision.HOLD if storm else Decision.ALLOW)
    assert not storm or (verdict.reason, verdict.about) == ("storm", f"storm:{NOW:.3f}")


async def test_only_what_is_new_at_once_counts() -> None:
    """Ten in five minutes and a second are none; two rules that answer one problem are one problem."""
    slow = problems(9) + problems(1, at=NOW - 300)
    assert (await STORM.check(context(Said(new=slow)))).decision is Decision.ALLOW
    assert (await STORM.check(context(Said(new=problems(9) + problems(1, at=NOW - 299))))).decision is Decision.HOLD
    twice = [run._replace(rule="other") for run in problems(9)]
    assert (await STORM.check(context(Said(new=problems(9) + twice)))).decision is Decision.ALLOW


@pytest.mark.parametrize(("rules", "storm"), [(3, False), (4, True)])
async def test_many_rules_at_once_are_a_storm(rules: int, storm: bool) -> None:
    """Four rules with new problems, however few they are."""
    verdict = await STORM.check(context(Said(new=problems(rules, rules=rules))))
    assert (verdict.decision is Decision.HOLD) is storm


@pytest.mark.parametrize(
    ("firing", "known", "storm"),
    [(4, 13, True), (4, 14, False), (3, 5, False), (4, 5, True), (30, 100, False), (31, 100, True)],
)
async def test_many_targets_are_a_storm(firing: int, known: int, storm: bool) -> None:
    """More than three tenths of all targets, if they are four; a small installation is not always in a storm."""
    names = [f"t{n}" for n in range(known)]
    facts = Said(new=problems(1), targets=frozenset([*names[:firing], "one that was removed"]))
    verdict = await STORM.check(context(facts, all_targets=names))
    assert (verdict.decision is Decision.HOLD) is storm


async def test_it_is_over_after_a_quarter_of_an_hour_below_half() -> None:
    """Ten at once: five minutes later none is new, a quarter of an hour after that it is over, to the second."""
    facts = Said(new=problems(10))
    first = await STORM.check(context(facts))
    assert first.until == NOW + 300 + 900
    last = await STORM.check(context(facts, at=NOW + 1199.9))
    assert (last.decision, last.about) == (Decision.HOLD, first.about)
    assert (await STORM.check(context(facts, at=NOW + 1200))).decision is Decision.ALLOW
    assert not facts.states["storm", "global"].open


async def test_half_as_much_keeps_it_going() -> None:
    """Five more within the last minutes begin the quarter of an hour anew; four do not."""
    for more, over in ((4, NOW + 1200), (5, NOW + 1000 + 1200)):
        facts = Said(new=problems(10))
        await STORM.check(context(facts))
        facts.new += problems(more, at=NOW + 1000)
        assert (await STORM.check(context(facts, at=over - 0.1))).decision is Decision.HOLD
        assert (await STORM.check(context(facts, at=over))).decision is Decision.ALLOW


async def test_targets_that_fire_on_keep_it_going() -> None:
    """As long as more than half of the share fires it is not over, however long ago the last alert was new."""
    names = [f"t{n}" for n in range(10)]
    facts = Said(new=problems(1), targets=frozenset(names[:6]))
    await STORM.check(context(facts, all_targets=names))
    for after in (900, 1800, 90_000):
        assert (await STORM.check(context(facts, at=NOW + after, all_targets=names))).decision is Decision.HOLD
    facts.targets = frozenset(names[:1])
    end = facts.states["storm", "global"].until
    assert end == NOW + 90_900
    assert (await STORM.check(context(facts, at=end - 1, all_targets=names))).decision is Decision.HOLD
    assert (await STORM.check(context(facts, at=end, all_targets=names))).decision is Decision.ALLOW


async def test_a_person_ends_it_and_what_was_does_not_begin_it_again() -> None:
    """After a release only new problems count; as many of them are the next storm, of which people are told again."""
    facts = Said(new=problems(50))
    first = await STORM.check(context(facts))
    facts.release("storm", "global", NOW + 10)
    assert (await STORM.check(context(facts, at=NOW + 11))).decision is Decision.ALLOW
    facts.new += problems(10, at=NOW + 20)
    second = await STORM.check(context(facts, at=NOW + 20))
    assert second.decision is Decision.HOLD and second.about != first.about


async def test_an_exempt_rule_is_not_held() -> None:
    """It acts in the worst storm, and without the brake; that is for what must never wait."""
    guard = Storm(exempt=["a"])
    assert (await guard.check(context(Said(new=problems(500))))).decision is Decision.ALLOW
    assert (guard.limits(context()), len(guard.limits(context(rule="b")))) == ((), 1)


def test_the_brake_is_counted_in_the_licence() -> None:
    """Three runs a minute of all rules, before anybody can know that it is a storm."""
    assert STORM.limits(context()) == (Limit(guard="storm_brake", scope="global", runs=3, window=60.0),)
    assert STORM.looks_back() == 86400.0 + 300.0


@pytest.mark.parametrize("parameters", [
    {"incidents": 1}, {"rules": 1}, {"times": 0.5}, {"share": 0.0}, {"share": 1.5}, {"within": "0s"}, {"calm": "0s"},
    {"effects": 0}, {"per": "0s"}, {"targets": 0},
])  # fmt: skip
def test_thresholds_that_make_no_sense_are_refused(parameters: dict[str, Any]) -> None:
    """What one alert would exceed, and what nothing could, is refused when rules load."""
    with pytest.raises(ValidationError):
        Storm.model_validate(parameters)


RULES = "rules:" + "".join(
    f"\n  - {{name: rule-{n}, mode: auto, max_age: 10h, when: {{alert: Alarm{n}}},"
    f" steps: [{{uses: place.kick, target: t{n}, with: {{thing: web}}}}]}}"
    for n in range(3)
)
GUARDS: list[dict[str, Any]] = [{"storm": {}}]


def places() -> list[Any]:
    """Three targets on which many runs may act at once, so that nothing but the guard holds them."""
    return [place(Outside(), name=f"t{n}", max_runs=999) for n in range(3)]


@pytest.mark.looptime
@pytest.mark.parametrize("at_a_time", [1, 100])
async def test_a_thousand_alerts_in_ten_seconds_lead_to_at_most_three_effects(at_a_time: int) -> None:
    """One by one or by the hundred: three effects at most, one storm, nothing acts while it lasts."""
    async with house(RULES, *places(), more_guards=GUARDS, backlog=5000, drop=()) as h:
        for n in range(0, 1000, at_a_time):
            await h.post(*(h.alert(f"Alarm{m % 3}", n=str(m)) for m in range(n, n + at_a_time)))
            await asyncio.sleep(at_a_time / 100)
        await asyncio.sleep(60)
        assert len(h.effects) <= 3
        held = await h.store.runs(states=(State.HELD,), limit=2000)
        assert {run.reason for run in held} <= {"storm", "storm_brake"}
        assert len(held) == 1000 - len(h.effects)
        (kept,) = await h.store.guard_states(open_only=True)
        assert (kept.guard, kept.scope) == ("storm", "global")
        assert [r.event for r in await h.store.audit(event="guard.opened", limit=100)] == ["guard.opened"]
        until = max(run.wake_at for run in held)
        assert until - h.clock.now() > 600
        await asyncio.sleep(600)
        assert len(h.effects) <= 3


@pytest.mark.looptime
async def test_without_the_guard_all_of_them_would_have_acted() -> None:
    """The same alerts by the hundred without it: an effect each, so it was the guard that held."""
    async with house(RULES, *places(), backlog=5000, drop=()) as h:
        for n in range(0, 300, 100):
            await h.post(*(h.alert(f"Alarm{m % 3}", n=str(m)) for m in range(n, n + 100)))
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        assert len(h.effects) == 300


@pytest.mark.looptime
async def test_what_it_held_acts_slowly_once_a_person_released_it() -> None:
    """The release wakes every run at once; each looks again, and no more than three act in a minute."""
    async with house(RULES, *places(), more_guards=GUARDS, drop=()) as h:
        await h.post(*(h.alert("Alarm0", n=str(n)) for n in range(30)))
        await asyncio.sleep(5)
        assert not h.effects
        await h.store.close_guard("storm", "global", "user:ann", "the switch is replaced")
        h.wake()
        await asyncio.sleep(50)
        assert len(h.effects) == 3
        await asyncio.sleep(60)
        assert len(h.effects) == 6
        assert list(await h.store.guard_states(open_only=True)) == []


@pytest.mark.looptime
async def test_it_ends_by_itself_when_all_is_calm() -> None:
    """Twenty minutes after the last alert the first runs act again, and the end is on record."""
    async with house(RULES, *places(), more_guards=GUARDS, drop=()) as h:
        await h.post(*(h.alert("Alarm0", n=str(n)) for n in range(12)))
        begun = h.clock.now()
        while not h.effects:
            await asyncio.sleep(5)
            assert h.clock.now() - begun < 1300
        assert h.effects[0].begun - begun == pytest.approx(1200, abs=2)
        assert (await h.store.audit(event="guard.closed", limit=10)) != []
