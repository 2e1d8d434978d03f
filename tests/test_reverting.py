"""Temporary changes under virtual time: they go back once it is safe or their time is over, and only if still ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from remediator.errors import InputError
from remediator.run import Kind, Run, State
from remediator.store import Pause
from tests.engine_world import EPOCH, House, house, place
from tests.test_line import rules, values

pytestmark = pytest.mark.looptime

LEASED = "{uses: place.turn, target: here, with: {thing: %s, to: %d}, lease: {settle: 5m, at_most: %s}}"
GROW = rules(f"steps: [{LEASED % ('workers', 5, '30m')}]")
TRIED = rules(f"steps: [{LEASED % ('workers', 5, '30m')}]\nverify: {{until: alert.resolved, within: 10m}}")


PRIMARY = rules(
    """
    probes:
      - {id: primary, uses: place.look, target: here, with: {thing: primary}}
      - {id: other, uses: place.look, target: here, with: {thing: other}}
    steps:
      - {uses: place.turn, target: here, with: {thing: rpc, to: 2}, lease: {until: CONDITION, settle: 5m, at_most: 2h}}
    """.replace("CONDITION", "alert.resolved && probes.primary.n == 1")
)


async def changes(h: House, *states: State) -> Sequence[Run]:
    """The ways back there are, oldest first."""
    return (await h.store.runs(kinds=(Kind.REVERT,), states=states))[::-1]


async def grown(h: House) -> Run:
    """Three workers have become five for a while; the way back of that."""
    values(h)["workers"] = 3
    await h.state(await h.fire(), State.VERIFYING, State.SUCCEEDED)
    await asyncio.sleep(1)
    (back,) = await changes(h)
    assert (back.state, back.reason, values(h)["workers"]) == (State.HELD, "in_force", 5)
    return back


async def until(h: House, at: float) -> None:
    """Let time go by until ``at`` seconds after the beginning."""
    await asyncio.sleep(EPOCH + at - h.clock.now())


async def test_it_goes_back_when_the_alert_has_stayed_resolved() -> None:
    """Not one second before the settle time is over, and at once when it is."""
    async with house(GROW) as h:
        back = await grown(h)
        await until(h, 60)
        await h.resolve()
        await until(h, 60 + 299)
        assert values(h)["workers"] == 5
        assert "must stay resolved for 5m" in (await h.store.run(back.id)).message
        await until(h, 60 + 302)
        assert values(h)["workers"] == 3
        run = await h.store.run(back.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "reverted")
        assert run.message == "put back (workers 3 → 5): the alert stayed resolved"
        assert (await h.store.counts()).changes_in_force == 0


async def test_it_goes_back_when_the_alert_resolved_while_the_change_was_being_made() -> None:
    """Nobody tells the end of the alert a second time: the way back asks for it when it begins."""
    async with house(GROW) as h:
        values(h)["workers"] = 3
        h.places["here"].outside.faults.append("slow 30")
        run_id = await h.fire()
        await until(h, 10)
        await h.resolve()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        await until(h, 10 + 302)
        assert values(h)["workers"] == 3


async def test_at_the_deadline_it_goes_back_although_the_alert_fires() -> None:
    """A temporary change is never forgotten: after at_most it goes back whatever the alert does."""
    async with house(GROW) as h:
        back = await grown(h)
        await until(h, 1800 - 5)
        assert values(h)["workers"] == 5
        await until(h, 1800 + 5)
        assert values(h)["workers"] == 3
        run = await h.store.run(back.id)
        assert (run.reason, run.message) == ("reverted", "put back (workers 3 → 5): its time was over")


async def test_it_stays_while_a_new_life_of_the_problem_fires() -> None:
    """The alert comes back within the settle time: the time begins anew when that life has ended."""
    async with house(GROW) as h:
        back = await grown(h)
        await until(h, 60)
        await h.resolve()
        await until(h, 200)
        await h.fire()
        await until(h, 1000)
        assert values(h)["workers"] == 5
        assert "the alert fires again" in (await h.store.run(back.id)).message
        await h.resolve()
        await until(h, 1000 + 299)
        assert values(h)["workers"] == 5
        await until(h, 1000 + 605)
        assert values(h)["workers"] == 3


async def test_what_somebody_else_changed_meanwhile_stays() -> None:
    """Compare and swap: a person's seven workers are not put back to three, and the record says why."""
    async with house(GROW) as h:
        back = await grown(h)
        values(h)["workers"] = 7
        await h.resolve()
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.CANCELLED, "not_ours")
        assert "somebody else has changed it since" in run.message and "workers is 7 and not 5" in run.message
        assert values(h)["workers"] == 7
        assert len(h.effects) == 1


async def test_what_a_person_put_back_is_back_already() -> None:
    """Nothing is done to a value that is as it was before."""
    async with house(GROW) as h:
        back = await grown(h)
        values(h)["workers"] = 3
        await h.resolve()
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "already_back")
        assert len(h.effects) == 1


async def test_changes_of_one_run_go_back_in_reverse_order() -> None:
    """The last one first, as whoever undoes by hand would do it."""
    body = f"steps: [{LEASED % ('a', 1, '30m')}, {LEASED % ('b', 1, '30m')}, {LEASED % ('c', 1, '30m')}]"
    async with house(rules(body)) as h:
        await h.end(await h.fire())
        await until(h, 60)
        await h.resolve()
        await until(h, 60 + 330)
        assert [effect.subject for effect in h.effects] == ["a", "b", "c", "c", "b", "a"]
        assert values(h) == {"a": 0, "b": 0, "c": 0}


async def test_changes_of_one_run_go_back_in_reverse_order_at_their_deadline() -> None:
    """Equal leases end together, although the later change was made a while later; none stays longer than it may."""
    body = f"steps: [{LEASED % ('a', 1, '20m')}, {{wait: 5m}}, {LEASED % ('b', 1, '20m')}]"
    async with house(rules(body)) as h:
        await h.end(await h.fire())
        await until(h, 1200 + 30)
        assert [effect.subject for effect in h.effects] == ["a", "b", "b", "a"]
        assert values(h) == {"a": 0, "b": 0}
        assert h.effects[-1].begun <= EPOCH + 1200 + 15


async def test_a_longer_lease_beside_it_holds_nothing_up() -> None:
    """A change of the same run that may stay longer does not keep the one that may not, on another thing."""
    body = f"steps: [{LEASED % ('a', 1, '20m')}, {LEASED % ('b', 1, '1h')}]"
    async with house(rules(body)) as h:
        await h.end(await h.fire())
        await until(h, 1200 + 5)
        assert values(h) == {"a": 0, "b": 1}


@pytest.mark.parametrize("helped", [True, False])
async def test_what_puts_an_earlier_change_back_is_not_temporary(helped: bool) -> None:
    """One rule turned the lamp to 1, another to 0 again: nothing brings the 1 back, unless that did not help."""
    first = rules(f"steps: [{LEASED % ('lamp', 1, '1h')}]", name="one")
    verify = "verify: {until: alert.resolved, within: 10m}"
    second = rules(f"steps: [{LEASED % ('lamp', 0, '30m')}]\n{verify}", name="two").replace("Alarm", "Other")
    async with house(first + second.removeprefix("rules:\n")) as h:
        await h.end(await h.fire())
        run_id = await h.fire("Other")
        await h.state(run_id, State.VERIFYING)
        assert values(h) == {"lamp": 0}
        if helped:
            await h.resolve("Other")
        assert (await h.end(run_id)).state is (State.SUCCEEDED if helped else State.FAILED)
        assert values(h) == {"lamp": int(not helped)}
        (back,) = await changes(h)
        await until(h, 3600 + 5)
        assert values(h) == {"lamp": 0}
        assert (await h.store.run(back.id)).reason == ("already_back" if helped else "reverted")
        assert len(h.effects) == (2 if helped else 4)


async def test_whether_it_puts_something_back_is_asked_again_after_a_wait() -> None:
    """While a person thinks, the earlier change is kept for good: the later one then is temporary after all."""
    first = rules(f"steps: [{LEASED % ('lamp', 1, '1h')}]", name="one")
    second = rules(f"steps: [{LEASED % ('lamp', 0, '30m')}]", name="two", mode="approve").replace("Alarm", "Other")
    async with house(first + second.removeprefix("rules:\n")) as h:
        await h.end(await h.fire())
        (back,) = await changes(h)
        run = await h.state(await h.fire("Other"), State.HELD)
        await h.store.cancel(back.id, "user:ann", "it stays on")
        await h.vote(run.id)
        assert (await h.end(run.id)).state is State.SUCCEEDED
        assert values(h) == {"lamp": 0}
        await until(h, 1800 + 60)
        assert values(h) == {"lamp": 1}


async def test_changes_of_one_thing_go_back_in_reverse_order() -> None:
    """Two rules turned one thing one after the other: the second goes back first, or neither would find its value."""
    first = rules(f"steps: [{LEASED % ('lamp', 1, '20m')}]", name="one")
    second = rules(f"steps: [{LEASED % ('lamp', 2, '30m')}]", name="two").replace("Alarm", "Other")
    async with house(first + second.removeprefix("rules:\n")) as h:
        await h.end(await h.fire())
        await h.end(await h.fire("Other"))
        assert values(h) == {"lamp": 2}
        await until(h, 1200 + 60)
        assert values(h) == {"lamp": 2}, "what was done later is still in force"
        first_back = (await changes(h))[0]
        assert "which was done later, goes back first" in first_back.message
        looks = len(await h.events(first_back.id))
        await until(h, 1800 + 310)
        assert values(h) == {"lamp": 0}
        assert len(await h.events(first_back.id)) - looks < 12, "nobody looks every few seconds for minutes"
        assert {run.reason for run in await changes(h)} == {"reverted"}


async def switched(h: House) -> Run:
    """The primary endpoint is ill and the second one is used for a while; the way back of that, the alert resolved."""
    await h.state(await h.fire(), State.SUCCEEDED)
    await asyncio.sleep(1)
    await h.resolve()
    (back,) = await changes(h)
    return back


async def test_it_stays_until_what_it_waits_for_has_held() -> None:
    """The alert is gone because of the change; it goes back when every look of the settle time was good."""
    async with house(PRIMARY) as h:
        back = await switched(h)
        await until(h, 1200)
        kept = await h.store.run(back.id)
        assert (kept.reason, values(h)["rpc"]) == ("in_force", 2)
        assert "not so: alert.resolved && probes.primary.n == 1" in kept.message
        assert [*kept.progress["evidence"]] == ["primary"], "nothing else is looked at again and again"
        values(h)["primary"] = 1
        await until(h, 1200 + 295)
        assert values(h)["rpc"] == 2
        assert "until this has held for 5m" in (await h.store.run(back.id)).message
        await until(h, 1200 + 5 * 60 + 65)
        assert values(h)["rpc"] == 0
        run = await h.store.run(back.id)
        assert run.message.endswith("this has held long enough: alert.resolved && probes.primary.n == 1")


async def test_one_look_at_which_it_does_not_hold_begins_the_time_anew() -> None:
    """An endpoint that is well four minutes of five is not well: the settle time counts from the last bad look."""
    async with house(PRIMARY) as h:
        await switched(h)
        for minute in range(1, 30):
            values(h)["primary"] = int(minute % 5 != 0)
            await until(h, 60 * minute + 30)
        assert values(h)["rpc"] == 2
        values(h)["primary"] = 1
        await until(h, 60 * 29 + 30 + 5 * 60 + 65)
        assert values(h)["rpc"] == 0


async def test_what_cannot_be_seen_does_not_hold() -> None:
    """Unknown is no: while the primary does not answer, the change stays, and at the deadline it goes back anyway."""
    async with house(PRIMARY) as h:
        values(h)["primary"] = 1
        back = await switched(h)
        h.places["here"].outside.away = True
        await until(h, 3600)
        kept = await h.store.run(back.id)
        assert kept.reason == "in_force" and "cannot be told, which is a no" in kept.message
        h.places["here"].outside.away = False
        values(h)["primary"] = 0
        await until(h, 7200 + 5)
        assert values(h)["rpc"] == 0
        assert (await h.store.run(back.id)).message.endswith("its time was over")


async def test_what_nobody_saw_has_not_held(tmp_path: Path) -> None:
    """The service was down for half an hour: well before and well after proves nothing about between."""
    path = str(tmp_path / "store.db")
    async with house(PRIMARY, path=path) as h:
        outside = h.places["here"].outside
        outside.values["primary"] = 1
        await switched(h)
        await until(h, 180)
    await asyncio.sleep(1800)
    async with house(PRIMARY, place(outside), path=path) as h:
        await until(h, 1980 + 4 * 60)
        assert outside.values["rpc"] == 2
        await until(h, 1980 + 6 * 60)
        assert outside.values["rpc"] == 0


async def test_it_waits_for_the_newest_life_of_the_alert() -> None:
    """The condition reads the alert as it is now: it fires again under a new incident, and the change stays."""
    async with house(PRIMARY) as h:
        values(h)["primary"] = 1
        await switched(h)
        await until(h, 200)
        await h.fire()
        await until(h, 2000)
        assert values(h)["rpc"] == 2
        await h.resolve()
        await until(h, 2000 + 290)
        assert values(h)["rpc"] == 2
        await until(h, 2000 + 365)
        assert values(h)["rpc"] == 0


async def test_its_condition_outlives_the_rule() -> None:
    """The rule is removed: the condition and its probes are read from what the run was planned by."""
    async with house(PRIMARY) as h:
        await switched(h)
        await h.reload(rules(f"steps: [{LEASED % ('other', 5, '30m')}]", name="another").replace("Alarm", "Other"))
        await until(h, 1000)
        assert values(h)["rpc"] == 2
        values(h)["primary"] = 1
        await until(h, 1000 + 365)
        assert values(h)["rpc"] == 0


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    """The promise is a fact in the store: another process, hours later, puts it back at the second."""
    path = str(tmp_path / "store.db")
    async with house(GROW, path=path) as h:
        back = await grown(h)
        outside = h.places["here"].outside
    await asyncio.sleep(600)
    async with house(GROW, place(outside), path=path) as h:
        await until(h, 1800 - 5)
        assert outside.values["workers"] == 5
        await until(h, 1800 + 5)
        assert outside.values["workers"] == 3
        assert (await h.store.run(back.id)).reason == "reverted"


async def test_the_rule_may_be_gone() -> None:
    """Whoever removes a rule does not make its temporary changes permanent."""
    async with house(GROW) as h:
        back = await grown(h)
        await h.reload(rules(f"steps: [{LEASED % ('other', 5, '30m')}]", name="another").replace("Alarm", "Other"))
        await h.resolve()
        assert (await h.end(back.id)).reason == "reverted"
        assert values(h)["workers"] == 3


@pytest.mark.parametrize("scope", ["global", "rule:one", "target:here"])
async def test_a_pause_holds_it(scope: str) -> None:
    """The kill switch stops what goes back as well; it goes when the pause is over."""
    async with house(GROW) as h:
        back = await grown(h)
        await h.store.pause(Pause(scope, "stop", "user:ann", h.clock.now(), None))
        await h.resolve()
        await until(h, 900)
        held = await h.store.run(back.id)
        assert (held.state, held.reason, values(h)["workers"]) == (State.HELD, "paused", 5)
        await h.store.resume(scope, "user:ann", "")
        h.wake()
        await until(h, 910)
        assert values(h)["workers"] == 3


async def test_observing_only_holds_it() -> None:
    """A service that may only observe changes nothing; the change stays in force and goes back when it may again."""
    async with house(GROW) as h:
        back = await grown(h)
        await h.resolve()
        await h.reload(mode_max="observe")
        await until(h, 900)
        held = await h.store.run(back.id)
        assert held.state is State.HELD and "rules may only observe now" in held.message
        await h.reload(mode_max="auto")
        await h.end(back.id)
        assert values(h)["workers"] == 3


async def test_a_person_puts_it_back_now() -> None:
    """Also while the alert fires; who asked for it is told at its end."""
    async with house(GROW) as h:
        back = await grown(h)
        await h.store.hasten(back.id, "user:ann", "the sale is over")
        h.wake()
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "reverted")
        assert "user:ann asked for it" in run.message
        assert values(h)["workers"] == 3 and h.clock.now() < EPOCH + 10


async def test_a_person_makes_it_permanent() -> None:
    """Without its way back the change stays, also after its deadline."""
    async with house(GROW) as h:
        back = await grown(h)
        await h.store.cancel(back.id, "user:ann", "we need five")
        await h.resolve()
        await until(h, 2000)
        assert values(h)["workers"] == 5
        assert (await h.store.run(back.id)).reason == "kept"


async def test_an_undone_remedy_ends_its_way_back_at_once() -> None:
    """What did not help and was undone is in force no more, long before its lease would end."""
    async with house(TRIED) as h:
        back = await grown(h)
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "already_back")
        assert h.clock.now() < EPOCH + 610
        assert values(h)["workers"] == 3 and len(h.effects) == 2


@pytest.mark.parametrize("fault", ["slow 1000", "lost reply", "no answer"])
async def test_a_death_between_act_and_record_doubles_nothing(fault: str) -> None:
    """The next owner asks the target what happened, records it, and the change goes back exactly once."""
    async with house(GROW, lease=30.0) as h:
        back = await grown(h)
        h.places["here"].outside.faults.append(fault)
        await h.resolve()
        await until(h, 305)
        if fault == "slow 1000":
            for task in [*h.worker._tasks]:
                task.cancel()
            await h.worker.drain(0.0)
            h.worker = h.new_worker("second")
            h.worker.start()
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "reverted")
        assert values(h)["workers"] == 3
        assert len(h.effects) == 2


async def test_a_death_after_the_act_of_the_remedy_keeps_the_way_back() -> None:
    """The reply to the change itself is lost: that it happened, and that it must go back, are learnt together."""
    async with house(GROW) as h:
        values(h)["workers"] = 3
        h.places["here"].outside.faults.append("lost reply")
        await h.state(await h.fire(), State.SUCCEEDED)
        await h.resolve()
        (back,) = await changes(h)
        assert (await h.end(back.id)).reason == "reverted"
        assert values(h)["workers"] == 3


async def test_what_cannot_be_reached_is_tried_again_and_then_told() -> None:
    """A target that is away for a moment costs a retry; one that refuses ends the way back as failed."""
    async with house(GROW) as h:
        back = await grown(h)
        h.places["here"].outside.faults.append("refused")
        await h.resolve()
        assert (await h.end(back.id)).reason == "reverted"
    async with house(GROW) as h:
        back = await grown(h)
        h.places["here"].outside.faults.append("denied")
        await h.resolve()
        run = await h.end(back.id)
        assert (run.state, run.reason) == (State.FAILED, "status_403")
        assert "could not be put back" in run.message and values(h)["workers"] == 5


def test_a_lease_without_a_way_back_is_refused_when_rules_are_loaded() -> None:
    """An action that nothing undoes cannot be temporary, and the author is told before anything happens."""
    text = GROW.replace("place.turn", "place.put")
    with pytest.raises(InputError, match=r"lease/irreversible"):
        House(text)


async def test_a_change_that_could_not_go_back_is_not_made() -> None:
    """Whether this very change can be undone is asked before it is licensed."""
    async with house(GROW.replace("to: 5}", "to: 5, jammed: true}")) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.DENIED, "no_way_back")
        assert h.effects == [] and await changes(h) == []
