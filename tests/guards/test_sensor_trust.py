"""sensor_trust: silence of what always fires, old series and sources that are down hold; unknown does too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.facts import FiringAlert
from remediator.guard import Decision
from remediator.guards.sensor_trust import SensorTrust
from remediator.run import State
from tests.engine_world import house
from tests.guards.context import NOW, Said, context, seen
from tests.guards.test_removed import ONE

WATCHDOG = 'alertname="Watchdog"'


@pytest.mark.parametrize(("ago", "trusted"), [(0, True), (899, True), (900, True), (901, False), (9e9, False)])
async def test_the_watchdog_must_have_been_told_lately(ago: float, trusted: bool) -> None:
    """Trusted up to the second at which the last notice is too old."""
    guard = SensorTrust.model_validate({"watchdog": WATCHDOG, "seen_within": "15m"})
    facts = Said(alerts=[FiringAlert({"alertname": "Watchdog"}, 0.0, NOW - ago)])
    verdict = await guard.check(context(facts))
    assert (verdict.decision is Decision.ALLOW) is trusted
    assert trusted or (verdict.decision, verdict.reason) == (Decision.HOLD, "sensor_trust")


async def test_a_watchdog_that_does_not_fire_is_not_trusted() -> None:
    """It always fires, so its end and its absence are the same alarm."""
    guard = SensorTrust.model_validate({"watchdog": WATCHDOG})
    assert (await guard.check(context(Said()))).decision is Decision.HOLD
    assert guard.watches() == (WATCHDOG,)


@pytest.mark.parametrize(
    ("value", "trusted"),
    [({"value": 0}, True), ({"value": 300}, True), ({"value": 300.5}, False), ({"value": -1}, False),
     ({"value": None}, False), ({"value": "9"}, False), ({"value": True}, False), ({}, False), ("refused", False)],
)  # fmt: skip
async def test_series_must_be_fresh(value: Any, trusted: bool) -> None:
    """An age up to the bound is fresh; one below 0, none, no number and a failed probe are not."""
    guard = SensorTrust.model_validate({"fresh": ["probes.age.value"], "max_age": "5m"})
    verdict = await guard.check(context(evidence=seen(age=value)))
    assert (verdict.decision is Decision.ALLOW) is trusted
    assert guard.reads() == {"age"}


@pytest.mark.parametrize(
    ("value", "trusted"),
    [(True, True), (1, True), (0.5, True), (0, False), (False, False), ("up", False), (None, False)],
)
async def test_sources_must_be_up(value: Any, trusted: bool) -> None:
    """True and numbers above 0 are up, everything else is not."""
    guard = SensorTrust.model_validate({"up": ["probes.up.values[0].value"]})
    verdict = await guard.check(context(evidence=seen(up={"values": [{"value": value}]})))
    assert (verdict.decision is Decision.ALLOW) is trusted


@pytest.mark.parametrize("parameters", [
    {}, {"watchdog": []}, {"watchdog": 'severity="x"'}, {"fresh": ["age"]}, {"fresh": ["probes.age"]},
    {"up": ["labels.x.y"]}, {"watchdog": WATCHDOG, "seen_within": "5s"}, {"fresh": ["probes.a.b"], "max_age": "0s"},
])  # fmt: skip
def test_what_looks_at_nothing_is_refused(parameters: dict[str, Any]) -> None:
    """Nothing to look at, no evidence, and a time shorter than notices are kept are refused when rules load."""
    with pytest.raises(ValidationError):
        SensorTrust.model_validate(parameters)


@pytest.mark.looptime
async def test_every_notice_counts_although_no_rule_answers_it() -> None:
    """The same notice, byte for byte, each minute keeps the trust; when it stops the run is held, and then goes on."""
    rules = ONE.replace("GUARD", "{sensor_trust: {watchdog: ['" + WATCHDOG + "'], seen_within: 2m}}")
    async with house(rules) as h:
        watchdog = h.alert("Watchdog")
        for _ in range(10):
            assert (await h.post(watchdog)).runs == ()
            await asyncio.sleep(60)
        first = await h.fire(n="1")
        assert (await h.end(first)).state is State.SUCCEEDED
        assert len(await h.store.incidents()) == 2  # one of the alert that nobody answers, however often it was told
        await asyncio.sleep(120)
        second = await h.fire(n="2")
        assert (await h.state(second, State.HELD)).reason == "sensor_trust"
        await asyncio.sleep(30)
        assert len(h.effects) == 1
        await h.post(watchdog)
        assert (await h.end(second)).state is State.SUCCEEDED


@pytest.mark.looptime
async def test_without_the_guard_such_alerts_leave_nothing() -> None:
    """An alert that neither a rule nor a guard names is delivered and forgotten, as ever."""
    async with house(ONE.replace("GUARD", "")) as h:
        await h.post(h.alert("Watchdog"))
        assert list(await h.store.incidents()) == []
