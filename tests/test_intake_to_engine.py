"""From a body to a run that is carried out: captured bodies, a full backlog, and what tells incidents apart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from remediator.errors import StoreUnavailable
from remediator.run import State
from remediator.store import Pause
from tests.engine_world import EPOCH, House, house
from tests.test_engine import KICK, rule

pytestmark = pytest.mark.looptime

PAYLOADS = sorted((Path(__file__).parent / "payloads").glob("*.json"))
NAMES = "HighQueueDepth, LowWalletBalance, HighEventLoopLag, GroupOfFive, Partial, Trunc"
ANYTHING = rule(mode="observe", alert=f"[{NAMES}]")


def metric(h: House, name: str) -> float:
    """The sum of a counter over its labels."""
    lines = [
        line
        for line in h.metrics.render().decode().splitlines()
        if line.startswith(name) and line[len(name)] in "{ "
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_there_are_payloads() -> None:
    """The bodies of real Alertmanagers are there; without them the next test would prove nothing."""
    assert len(PAYLOADS) >= 13


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
async def test_every_body_of_a_real_alertmanager_is_accepted_and_harmless_twice(path: Path) -> None:
    """Captured from three versions: accepted as it stands, committed, and the second copy opens nothing more."""
    body = path.read_bytes()
    alerts = json.loads(body)["alerts"]
    async with house(ANYTHING) as h:
        receipt = await h.intake.accept(body, "captured")
        assert receipt.alerts == len(alerts)
        again = await h.intake.accept(body, "captured")
        assert again.runs == ()
        await asyncio.sleep(5)
        runs = await h.store.runs()
        assert len(runs) == len(receipt.runs)
        assert metric(h, "remediator_alerts_received_total") == 2 * len(alerts)
        firing = any(alert["status"] == "firing" for alert in alerts)
        assert bool(runs) is (firing and bool(h.rulebook.match(alerts[0]["labels"])))


async def test_a_truncated_delivery_is_noticed() -> None:
    """Alertmanager left 7 alerts out: counted, and recorded with the delivery."""
    async with house(ANYTHING) as h:
        await h.post(h.alert("Trunc"), truncatedAlerts=7)
        assert metric(h, "remediator_alerts_truncated_total") == 7
        (record,) = await h.store.audit(event="delivery.accepted")
        assert json.loads(record.body)["detail"]["truncated"] == 7


async def test_a_run_over_dropped_labels_ends_with_the_last_alert() -> None:
    """One alert of three pods is one incident and one run, which has succeeded when the last of them has resolved."""
    async with house(rule("verify: {until: alert.resolved, within: 1h}", steps=KICK), drop=("pod",)) as h:
        run_id = await h.fire(pod="a", env="x")
        assert await h.fire(pod="b", env="x") == ""
        assert await h.fire(pod="c", env="x") == ""
        await h.state(run_id, State.VERIFYING)
        for pod in "ab":
            await h.resolve(pod=pod, env="x", since=EPOCH)
        await asyncio.sleep(60)
        assert (await h.store.run(run_id)).state is State.VERIFYING
        await h.resolve(pod="c", env="x", since=EPOCH)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert await h.fire(pod="a", env="y"), "another value of a label that counts is another incident"


async def test_group_by_makes_one_incident_for_each_rule() -> None:
    """Two rules that group by different labels see different incidents in the same alerts."""
    env, zone = (
        rule(name=f"by-{label}", steps=KICK).replace("alert: Alarm", f"alert: Alarm, group_by: [{label}]")
        for label in ("env", "zone")
    )
    async with house(env + zone.removeprefix("rules:\n")) as h:
        first = await h.post(h.alert(env="prod", zone="1"))
        second = await h.post(h.alert(env="prod", zone="2"))
        third = await h.post(h.alert(env="prod", zone="2"))
        assert [len(receipt.runs) for receipt in (first, second, third)] == [2, 1, 0]
        assert (await h.store.run(second.runs[0])).rule == "by-zone"
        for run_id in (*first.runs, *second.runs):
            await h.end(run_id)


async def test_a_backlog_refuses_for_now_and_recovers() -> None:
    """Ten runs wait, ten may: the next delivery gets a 503 until acting has caught up, and is then accepted."""
    async with house(rule(steps=KICK), backlog=10, work=False) as h:
        for number in range(10):
            await h.fire(n=str(number))
        with pytest.raises(StoreUnavailable, match=r"at most 10 may \(intake.backlog\)"):
            await h.fire(n="more")
        assert len(await h.store.runs()) == 10
        h.worker.start()
        await asyncio.sleep(5)
        assert await h.fire(n="more")


async def test_a_full_backlog_still_takes_ends_and_what_no_rule_answers() -> None:
    """A pause holds ten runs: that their alerts resolved must get through, or they could never be cancelled."""
    async with house(rule(steps=KICK), backlog=10) as h:
        await h.store.pause(Pause("global", "a drill", "user:ann", h.clock.now(), None))
        runs = [await h.fire(n=str(number)) for number in range(10)]
        await asyncio.sleep(5)
        with pytest.raises(StoreUnavailable):
            await h.fire(n="more")
        assert await h.fire("Watchdog") == ""
        for number in range(10):
            await h.resolve(n=str(number), since=EPOCH)
        for run_id in runs:
            assert (await h.end(run_id)).state is State.CANCELLED


async def test_a_disk_that_is_full_is_a_refusal_for_now() -> None:
    """What cannot be committed is not acknowledged; the sender's next copy is accepted and opens one run."""
    async with house(rule(steps=KICK)) as h:
        h.disk(full=True)
        with pytest.raises(StoreUnavailable):
            await h.fire()
        h.disk(full=False)
        assert await h.fire()
        assert len(await h.store.runs()) == 1


async def test_a_hostile_label_costs_no_other_alert_of_the_delivery() -> None:
    """Intake only matches and stores: what a label would do wrong later is refused later, and only there."""
    steps = '- {uses: place.put, target: here, with: {thing: "${{ labels.thing }}", to: 1}}'
    async with house(rule(steps=steps)) as h:
        receipt = await h.post(h.alert(thing="${{ labels.x }}"), h.alert(thing="lamp"), h.alert(thing="'; DROP"))
        ends = sorted([(await h.end(run_id)).state.value for run_id in receipt.runs])
        assert ends == ["denied", "denied", "succeeded"]


async def test_a_late_firing_notice_after_the_end_starts_nothing() -> None:
    """Deliveries may overtake each other: the beginning of a life that is already over opens no run."""
    async with house(rule(steps=KICK)) as h:
        await h.resolve(since=EPOCH)
        assert await h.fire(since=EPOCH) == ""
        assert not h.effects
