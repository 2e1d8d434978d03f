"""feedback: what our own actions make fire is waited out, to the second, and never becomes a chain."""

from __future__ import annotations

import pytest

from remediator.facts import Announced
from remediator.guard import Decision
from remediator.guards.feedback import Feedback
from remediator.run import State
from tests.engine_world import house, place
from tests.guards.context import NOW, Said, context


async def test_an_announced_alert_is_held_until_its_time_is_over() -> None:
    """One second before the time is over the run is held, and at the second it goes on."""
    facts = Said(causes=[Announced("other", "restart", NOW - 60, NOW + 1, 0)])
    verdict = await Feedback().check(context(facts))
    assert (verdict.decision, verdict.reason, verdict.until) == (Decision.HOLD, "feedback", NOW + 1)
    assert 'rule "restart" causes it' in verdict.message
    assert (await Feedback().check(context(facts, at=NOW + 1))).decision is Decision.ALLOW
    assert facts.asked == [("Lag",), ("Lag",)]


async def test_a_chain_is_denied_also_when_its_time_is_over() -> None:
    """What follows from a run that itself answered a caused alert ends, and a person must look."""
    facts = Said(causes=[Announced("x", "r", NOW - 60, NOW - 1, 0), Announced("y", "deep", NOW - 60, NOW - 30, 1)])
    verdict = await Feedback().check(context(facts))
    assert (verdict.decision, verdict.reason) == (Decision.DENY, "feedback")
    assert "deep" in verdict.message


@pytest.mark.parametrize("labels", [{}, {"alertname": ""}, {"alertname": "Lag"}])
async def test_what_nobody_announced_is_not_held(labels: dict[str, str]) -> None:
    """Without an announcement, or without a name that could be announced, the guard has nothing to say."""
    assert (await Feedback().check(context(labels=labels))).decision is Decision.ALLOW


RULES = """
rules:
  - name: restart
    mode: auto
    when: {alert: Alarm}
    steps: [{uses: place.put, target: here, with: {thing: web, to: 1}, causes: [Lag], causes_for: 10m}]
  - name: lag
    mode: auto
    max_age: 1h
    when: {alert: Lag}
    steps: [{uses: place.put, target: here, with: {thing: db, to: 1}, causes: [Full], causes_for: 10m}]
  - name: full
    mode: auto
    when: {alert: Full}
    steps: [{uses: place.put, target: here, with: {thing: disk, to: 1}}]
"""


@pytest.mark.looptime
async def test_a_run_does_not_answer_what_another_one_causes() -> None:
    """The run for the caused alert acts ten minutes after the step that causes it, and what that causes acts never."""
    async with house(RULES, place()) as h:
        first = await h.end(await h.fire("Alarm"))
        begun = h.clock.now()
        caused = await h.fire("Lag")
        assert (await h.state(caused, State.HELD)).reason == "feedback"
        assert (await h.end(caused)).state is State.SUCCEEDED
        assert [effect.subject for effect in h.effects] == ["web", "db"]
        assert h.effects[1].begun == pytest.approx(begun + 600, abs=1)
        chain = await h.end(await h.fire("Full"))
        assert (chain.state, chain.reason, first.state) == (State.DENIED, "feedback", State.SUCCEEDED)
        assert len(h.effects) == 2


@pytest.mark.looptime
async def test_without_an_announcement_it_acts_at_once() -> None:
    """The same alerts without ``causes`` are three problems, and three effects: so it was the guard that held."""
    silent = RULES.replace(", causes: [Lag], causes_for: 10m", "").replace(", causes: [Full], causes_for: 10m", "")
    async with house(silent, place()) as h:
        for name in ("Alarm", "Lag", "Full"):
            assert (await h.end(await h.fire(name))).state is State.SUCCEEDED
        assert len(h.effects) == 3 and h.effects[-1].begun - h.effects[0].begun < 2


@pytest.mark.looptime
async def test_an_alert_that_fired_before_is_not_caused() -> None:
    """An alert whose run was opened before the licence was given is a problem of its own."""
    async with house(RULES, place(), work=False) as h:
        earlier = await h.fire("Lag")
        await h.store.pauses()
        run_id = await h.fire("Alarm", since=h.clock.now() - 1)
        h.worker.start()
        assert (await h.end(earlier)).state is State.SUCCEEDED
        assert (await h.end(run_id)).state is State.SUCCEEDED
