"""Every guard stops something: the same story with it and without it, by a real engine on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from remediator import asking
from remediator.guards.pause import Pause
from remediator.run import State
from tests.engine_world import House, Outside, house, place

pytestmark = pytest.mark.looptime

ONE = """
rules:
  - name: one
    mode: auto
    max_age: 1h
    service: shop
    when: {alert: Alarm}
    guards: [GUARD]
    probes: [{id: fleet, uses: place.look, target: here, with: {thing: fleet}}]
    steps: [{uses: place.kick, target: here, with: {thing: web}}]
"""
TWO = ONE + """
  - name: two
    mode: auto
    max_age: 1h
    service: shop
    when: {alert: Second}
    guards: [GUARD]
    steps: [{uses: place.kick, target: there, with: {thing: db}}]
"""
OPPOSITE = """
rules:
  - name: up
    mode: auto
    when: {alert: Alarm}
    guards: [GUARD]
    steps: [{uses: place.put, target: here, with: {thing: web, to: 5}}]
  - name: down
    mode: auto
    when: {alert: Second}
    guards: [GUARD]
    steps: [{uses: place.put, target: here, with: {thing: web, to: 1}}]
"""


async def _once(h: House) -> None:
    await h.fire()


async def _twice(h: House) -> None:
    await h.fire()
    await asyncio.sleep(1)
    await h.fire("Second")


async def _other_first(h: House) -> None:
    await h.fire("NodeDown")
    await asyncio.sleep(1)
    await h.fire()


async def _many(h: House) -> None:
    await h.post(*(h.alert(n=str(n)) for n in range(20)))


async def _lives(h: House, most: int = 4) -> None:
    for _ in range(most):
        run_id = await h.fire()
        await asyncio.sleep(5)
        if not run_id:
            return  # It fires still, and the run before waits for its guard.
        if (await h.store.run(run_id)).state in (State.SUCCEEDED, State.FAILED):
            await h.resolve()
        await asyncio.sleep(5)


async def _failures(h: House) -> None:
    h.places["here"].outside.faults.extend(["denied", "denied"])
    await _lives(h, 3)


class Story(NamedTuple):
    """What happens, under which rules, and how many effects there are with the guard and without it."""

    guard: str
    rules: str
    happens: Callable[[House], Awaitable[None]]
    effects: int
    without: int


STORIES = [
    Story("change_window: {freeze: [{from: '2027-01-15', until: '2027-01-16'}]}", ONE, _once, 0, 1),
    Story("inhibition: alertname=\"NodeDown\"", ONE, _other_first, 0, 1),
    Story("blast_radius: {fleet: probes.fleet.n, max_share: 0.3}", ONE, _once, 0, 1),
    Story("storm: {}", ONE, _many, 0, 20),
    Story("flap: 3", ONE, _lives, 3, 4),
    Story("breaker: 2", ONE, _failures, 0, 1),
    Story("backoff: {first: 10m}", ONE, _failures, 0, 1),
    Story("max_attempts: 1", ONE, _lives, 1, 4),
    Story("sensor_trust: alertname=\"Watchdog\"", ONE, _once, 0, 1),
    Story("budget: 1", TWO, _twice, 1, 2),
    Story("conflict: 30m", OPPOSITE, _twice, 1, 2),
]


@pytest.mark.parametrize("guarded", [True, False], ids=["with", "without"])
@pytest.mark.parametrize("story", STORIES, ids=[story.guard.partition(":")[0] for story in STORIES])
async def test_what_a_guard_stops_happens_without_it(story: Story, guarded: bool) -> None:
    """A minute later there are as many effects as the guard allows, and more of them where it was taken away."""
    rules = story.rules.replace("GUARD", "{" + story.guard + "}" if guarded else "")
    places = [place(Outside(values={"fleet": 3})), place(name="there")]
    async with house(rules, *places, drop=()) as h:
        await story.happens(h)
        await asyncio.sleep(20)
        assert len(h.effects) == (story.effects if guarded else story.without)


async def test_a_guard_of_the_settings_stands_before_every_rule() -> None:
    """What the settings forbid no rule does, whatever its own guards are; a service's budget binds its rules."""
    freeze = {"change_window": {"freeze": [{"from": "2027-01-15", "until": "2027-01-16"}]}}
    places = (place(), place(name="there"))
    async with house(TWO.replace("GUARD", ""), *places, more_guards=[freeze]) as h:
        await _twice(h)
        await asyncio.sleep(20)
        assert len(h.effects) == 0
    budget = {"shop": [{"budget": {"runs": 1}}]}
    places = (place(), place(name="there"))
    async with house(TWO.replace("GUARD", ""), *places, of_service=budget) as h:
        await _twice(h)
        await asyncio.sleep(20)
        assert len(h.effects) == 1


async def test_feedback_is_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caused alert starts nothing although no rule names the guard; taken out of the engine, it would act."""
    rules = ONE.replace("GUARD", "").replace("{thing: web}}", "{thing: web}, causes: [Lag], causes_for: 5m}") + """
  - name: lag
    mode: auto
    when: {alert: Lag}
    steps: [{uses: place.kick, target: here, with: {thing: db}}]
"""
    for built_in, effects in ((asking.BUILT_IN, 1), ((("pause", Pause()),), 2)):
        monkeypatch.setattr(asking, "BUILT_IN", built_in)
        async with house(rules, place()) as h:
            await h.end(await h.fire())
            await h.fire("Lag")
            await asyncio.sleep(20)
            assert len(h.effects) == effects


@pytest.mark.parametrize("guard", [
    "inhibition: alertname=\"NodeDown\"", "sensor_trust: alertname=\"Watchdog\"", "conflict: 30m", "flap: 1",
    "breaker: 1", "backoff: {}", "max_attempts: 1", "storm: {}", "budget: 1",
    "blast_radius: {fleet: probes.fleet.n, max_share: 0.3}",
])  # fmt: skip
async def test_observe_mode_says_what_a_guard_would_have_said(guard: str) -> None:
    """A rule that only looks asks every guard like one that acts, and keeps nothing: no breaker and no storm opens."""
    rules = ONE.replace("GUARD", "{" + guard + "}").replace("mode: auto", "mode: observe")
    async with house(rules, place(Outside(values={"fleet": 2})), drop=()) as h:
        receipt = await h.post(*(h.alert(n=str(n)) for n in range(12)))
        runs = [await h.end(run_id) for run_id in receipt.runs]
        assert {run.state for run in runs} == {State.OBSERVED}
        assert [v["guard"] for v in runs[0].progress["verdicts"]] == ["pause", "feedback", guard.partition(":")[0]]
        assert list(await h.store.guard_states()) == []
        stops = guard.partition(":")[0] in ("sensor_trust", "storm", "blast_radius")
        assert all(("but not now" in run.message) is stops for run in runs)
