"""inhibition: one alert holds what another one explains, and nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.facts import FiringAlert
from remediator.guard import Decision
from remediator.guards.inhibition import Inhibition
from remediator.run import State
from tests.engine_world import house
from tests.guards.context import NOW, Said, context
from tests.guards.test_removed import ONE

DOWN = 'alertname="NodeDown"'


def guard(**more: Any) -> Inhibition:
    """Held while a node is down."""
    return Inhibition.model_validate({"while": [DOWN], **more})


def fires(since: float = NOW, labels: dict[str, str] | None = None) -> Said:
    """Facts in which a node is down."""
    return Said(alerts=[FiringAlert({"alertname": "NodeDown", **(labels or {})}, since, NOW)])


async def test_holds_while_the_other_alert_fires() -> None:
    """Held with its reason, to be looked at again soon; allowed when nothing that matches fires."""
    facts = fires()
    verdict = await guard().check(context(facts))
    assert (verdict.decision, verdict.reason, verdict.until) == (Decision.HOLD, "inhibition", None)
    assert facts.asked == [(DOWN,)]
    assert (await guard().check(context(Said()))).decision is Decision.ALLOW


@pytest.mark.parametrize(
    ("mine", "other", "held"),
    [({"cluster": "a"}, {"cluster": "a"}, True), ({"cluster": "a"}, {"cluster": "b"}, False), ({}, {}, True),
     ({"cluster": "a"}, {}, False), ({}, {"cluster": "a"}, False)],
)  # fmt: skip
async def test_equal_labels_must_be_alike(mine: dict[str, str], other: dict[str, str], held: bool) -> None:
    """As in Alertmanager a label that both lack is alike."""
    verdict = await guard(equal=["cluster"]).check(context(fires(labels=other), labels={"alertname": "Lag", **mine}))
    assert (verdict.decision is Decision.HOLD) is held


async def test_a_short_one_holds_nothing_if_so_said() -> None:
    """With ``settle`` the other alert counts from that age on, to the second."""
    settled = guard(settle="1m")
    assert (await settled.check(context(fires(NOW - 59)))).decision is Decision.ALLOW
    assert (await settled.check(context(fires(NOW - 60)))).decision is Decision.HOLD


@pytest.mark.parametrize("texts", [[], ["severity"], ['severity="x"'], ['alertname=~".*"'], ['alertname="x'], [5]])
def test_what_names_no_alert_is_refused(texts: list[Any]) -> None:
    """No matcher, a broken one, one that names no alert and one that matches all are refused when rules load."""
    with pytest.raises(ValidationError):
        Inhibition.model_validate({"while": texts})


def test_says_what_must_be_kept_for_it() -> None:
    """The other alert is kept as an incident though no rule answers it; one matcher may be written short."""
    assert guard().watches() == (DOWN,)
    assert Inhibition.model_validate({"while": DOWN}) == guard()


@pytest.mark.looptime
async def test_an_alert_that_no_rule_answers_holds_and_lets_go() -> None:
    """The run waits while the other alert fires and acts once it has resolved; the alert itself starts nothing."""
    async with house(ONE.replace("GUARD", "{inhibition: '" + DOWN + "'}")) as h:
        assert await h.fire("NodeDown", node="n1") == ""
        run_id = await h.fire()
        assert (await h.state(run_id, State.HELD)).reason == "inhibition"
        await asyncio.sleep(60)
        assert not h.effects
        begun = h.clock.now()
        await h.resolve("NodeDown", since=h.clock.now() - 61, node="n1")
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert h.effects[0].begun - begun <= 15


@pytest.mark.looptime
async def test_a_problem_does_not_hold_itself() -> None:
    """A rule that is held by any database being down is not held by its own, and is by another one."""
    rules = ONE.replace("GUARD", "{inhibition: 'alertname=\"Alarm\"'}")
    async with house(rules) as h:
        assert (await h.end(await h.fire(db="one"))).state is State.SUCCEEDED
        second = await h.fire(db="two")
        assert (await h.state(second, State.HELD)).reason == "inhibition"


@pytest.mark.looptime
async def test_an_alert_in_the_group_of_another_rule_is_no_other_alert() -> None:
    """A rule that groups the same alerts makes another incident of them, which holds nobody who answers them."""
    rules = ONE.replace("GUARD", "{inhibition: 'alertname=\"Alarm\"'}") + """
  - name: grouped
    mode: observe
    when: {alert: Alarm, group_by: [cluster]}
    steps: [{uses: place.kick, target: here, with: {thing: web}}]
"""
    async with house(rules) as h:
        receipt = await h.post(h.alert(cluster="a"))
        ends = {(await h.end(run_id)).state for run_id in receipt.runs}
        assert ends == {State.SUCCEEDED, State.OBSERVED}
