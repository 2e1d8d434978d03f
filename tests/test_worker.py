"""The loop under virtual time: claims, leases, who may act on what at once, stopping, and standing still."""

from __future__ import annotations

import asyncio

import pytest

from remediator.action import Effect
from remediator.run import State
from tests.engine_world import EPOCH, House, Outside, house, place
from tests.test_acting import STEPS, crash
from tests.test_engine import KICK, PROBE, TWO, rule

pytestmark = pytest.mark.looptime


def both(first: str, second: str) -> str:
    """Two rule files as one."""
    return first + second.removeprefix("rules:\n")


# one at a time --------------------------------------------------------------------------------------------------------


async def test_two_rules_never_act_on_one_subject_at_once() -> None:
    """Two rules, one alert, one thing, each effect takes a while: they act one after the other, twenty times."""
    text = both(rule(name="one", steps=KICK), rule(name="two", steps=KICK))
    async with house(text) as h:
        h.places["here"].outside.faults += ["slow 7"] * 40
        runs: list[str] = []
        for number in range(20):
            runs += (await h.post(h.alert(n=str(number)))).runs
        for run_id in runs:
            assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 40
        assert all(a.ended <= b.begun for a, b in zip(h.effects, h.effects[1:], strict=False))


async def test_different_subjects_of_one_target_are_acted_on_together() -> None:
    """Two things of one target are two subjects; they need not wait for each other."""
    door = "- {uses: place.kick, target: here, with: {thing: door}}"
    async with house(both(rule(name="one", steps=KICK), rule(name="two", steps=door))) as h:
        h.places["here"].outside.faults += ["slow 7"] * 2
        for run_id in (await h.post(h.alert())).runs:
            await h.end(run_id)
        assert [effect.begun for effect in h.effects] == pytest.approx([EPOCH, EPOCH], abs=0.1)


async def test_a_subject_that_is_not_known_beforehand_is_the_whole_target() -> None:
    """Where a label decides what is acted on, the run is alone on its whole target."""
    labelled = '- {uses: place.kick, target: here, with: {thing: "${{ labels.thing }}"}}'
    async with house(both(rule(name="one", steps=KICK), rule(name="two", steps=labelled))) as h:
        h.places["here"].outside.faults += ["slow 7"] * 2
        for run_id in (await h.post(h.alert(thing="door"))).runs:
            await h.end(run_id)
        first, second = h.effects
        assert first.ended <= second.begun


async def test_a_target_may_allow_several_runs_at_once() -> None:
    """``max_runs: 2`` is two at once and not three."""
    async with house(rule(steps=KICK), place(max_runs=2), check={"max_runs": 2}) as h:
        h.places["here"].outside.faults += ["slow 10"] * 3
        runs = [await h.fire(n=str(number)) for number in range(3)]
        for run_id in runs:
            await h.end(run_id)
        assert [effect.begun - EPOCH for effect in h.effects] == pytest.approx([0, 0, 10], abs=0.1)


async def test_a_run_that_waits_for_a_target_costs_no_busy_loop() -> None:
    """While one run acts for minutes, the one behind it is looked for about once a second and not all the time."""
    async with house(both(rule(name="one", steps=KICK), rule(name="two", steps=KICK))) as h:
        h.places["here"].outside.faults.append("slow 60")
        asked = 0
        claim = h.store.claim

        async def counted(owner: str, lease: float, most: int):  # type: ignore[no-untyped-def]  # only counts
            nonlocal asked
            asked += 1
            return await claim(owner, lease, most)

        h.store.claim = counted  # type: ignore[method-assign]  # counts what the worker asks
        for run_id in (await h.post(h.alert())).runs:
            await h.end(run_id)
        assert asked < 90
        first, second = h.effects
        assert second.begun - first.ended < 0.1, "the end of the first wakes the second at once"


async def test_concurrency_is_a_bound() -> None:
    """With room for two, ten runs on ten things are carried out two at a time."""
    steps = '- {uses: place.kick, target: here, with: {thing: "${{ labels.thing }}"}}'
    async with house(rule(steps=steps), place(max_runs=100), concurrency=2, check={"max_runs": 2}) as h:
        h.places["here"].outside.faults += ["slow 10"] * 10
        runs = [await h.fire(thing=f"thing-{number}") for number in range(10)]
        for run_id in runs:
            await h.end(run_id)
        assert h.clock.now() == pytest.approx(EPOCH + 50, abs=2)


# leases ---------------------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_as_long_as_the_run_is_carried() -> None:
    """An effect that takes longer than three leases is neither lost nor taken over."""
    steps = "- {uses: place.kick, target: here, with: {thing: lamp}, timeout: 5m}"
    async with house(rule(steps=steps), lease=30) as h:
        h.places["here"].outside.faults.append("slow 100")
        second = h.new_worker("second")
        second.start()
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert "run.recovered" not in await h.events(run_id)
        await second.drain(0)


async def test_a_process_that_stood_still_goes_on_with_what_nobody_took() -> None:
    """Forty seconds of standing still (a paused machine) in the middle of an effect make no unknown outcome."""
    async with house(rule(steps=KICK), lease=30) as h:
        h.places["here"].outside.faults.append("slow 10")
        run_id = await h.fire()
        await asyncio.sleep(5)
        h.clock.skip(40)
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert "run.recovered" not in await h.events(run_id)


async def test_after_standing_still_no_effect_begins_on_an_old_lease() -> None:
    """The process stood still longer than its lease right before it sent: nothing is sent on that licence."""
    async with house(rule(steps="- " + STEPS[Effect.ONCE] % ", retry: {attempts: 2, backoff: 1s}"), lease=30) as h:
        h.places["here"].outside.faults.append("stopped 60")
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state in (State.SUCCEEDED, State.NEEDS_HUMAN)
        assert [row.attempt for row in await h.store.effects(run_id) if row.state == "done"] in ([2], [])


async def test_two_workers_share_the_runs_and_double_none() -> None:
    """Two owners on one store: every run is carried out once."""
    steps = '- {uses: place.kick, target: here, with: {thing: "${{ labels.thing }}"}}'
    async with house(rule(steps=steps), place(max_runs=100), concurrency=3, check={"max_runs": 100}) as h:
        h.places["here"].outside.faults += ["slow 3"] * 30
        second = h.new_worker("second")
        second.start()
        runs = [await h.fire(thing=f"thing-{number}") for number in range(30)]
        for run_id in runs:
            assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 30
        await second.drain(0)


# stopping -------------------------------------------------------------------------------------------------------------


async def drain(h: House, grace: float) -> float:
    """Drain as SIGTERM does; how long it took. A worker for after the restart is ready, but not started."""
    begun = h.clock.monotonic()
    await h.worker.drain(grace)
    h.worker = h.new_worker("second")
    return h.clock.monotonic() - begun


async def test_a_drain_lets_an_effect_finish_and_records_it() -> None:
    """SIGTERM in the middle of an effect: it ends, its outcome is written, nothing is left for a person."""
    async with house(rule(steps=KICK)) as h:
        h.places["here"].outside.faults.append("slow 10")
        run_id = await h.fire()
        await asyncio.sleep(2)
        assert await drain(h, 25) == pytest.approx(8, abs=1.1)
        assert (await h.store.run(run_id)).state is State.SUCCEEDED


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0])
async def test_a_drain_begins_no_effect(seconds: float) -> None:
    """What has no licence yet when SIGTERM comes is handed back, and the next process carries it out, once."""
    async with house(rule(PROBE % ", wait: 2.0", steps=KICK)) as h:
        run_id = await h.fire()
        await asyncio.sleep(1)
        await drain(h, seconds)
        run = await h.store.run(run_id)
        assert (run.state, run.reason) == (State.QUEUED, "drained")
        assert not h.effects
        h.worker.start()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 1


async def test_a_drain_between_two_steps_hands_back_what_was_done() -> None:
    """The first step is finished, the second is not begun; the next process goes on with the second."""
    async with house(rule(steps=TWO)) as h:
        h.places["here"].outside.faults.append("slow 10")
        run_id = await h.fire()
        await asyncio.sleep(2)
        await drain(h, 25)
        run = await h.store.run(run_id)
        assert (run.state, run.reason) == (State.QUEUED, "drained")
        assert len(h.effects) == 1
        h.worker.start()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert h.places["here"].outside.values == {"lamp": 3, "door": 1}
        assert len(h.effects) == 2


async def test_a_drain_while_a_step_settles_hands_it_back() -> None:
    """Waiting for a rollout is no effect: it is handed back, and the next process waits on."""
    settle = "- {uses: place.settle, target: here, with: {thing: lamp, to: 3}, timeout: 10m}"
    async with house(rule(steps=settle)) as h:
        h.places["here"].outside.settled_after = 200
        run_id = await h.fire()
        await asyncio.sleep(2)
        await drain(h, 5)
        assert (await h.store.run(run_id)).state is State.QUEUED
        h.worker.start()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 1


async def test_an_effect_that_outlives_the_grace_is_not_handed_back() -> None:
    """Longer than grace and five seconds: its outcome is unknown, so it stays with its lease and is recovered."""
    async with house(rule(steps="- " + STEPS[Effect.IDEMPOTENT] % "")) as h:
        h.places["here"].outside.faults.append("slow 100")
        run_id = await h.fire()
        await asyncio.sleep(2)
        assert await drain(h, 10) == pytest.approx(15, abs=1.5)
        run = await h.store.run(run_id)
        assert run.state is State.RUNNING
        assert "run.queued" not in (await h.events(run_id))[1:]
        h.worker.start()
        assert (await h.end(run_id)).state is State.SUCCEEDED


async def test_a_drain_of_many_leaves_nothing_running() -> None:
    """Thirty runs in all phases, then SIGTERM: after the drain each is ended, waiting or handed back."""
    steps = '- {uses: place.kick, target: here, with: {thing: "${{ labels.thing }}"}}'
    text = rule(PROBE % ", wait: 1.0", steps=steps)
    async with house(text, place(max_runs=100), concurrency=10, check={"max_runs": 100}) as h:
        h.places["here"].outside.faults += [f"slow {number % 4}" for number in range(30)]
        runs = [await h.fire(thing=f"thing-{number}") for number in range(30)]
        await asyncio.sleep(2.5)
        await drain(h, 25)
        states = {(await h.store.run(run_id)).state for run_id in runs}
        assert states <= {State.SUCCEEDED, State.QUEUED}
        h.worker.start()
        for run_id in runs:
            assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 30


# the store ------------------------------------------------------------------------------------------------------------


async def test_the_loop_outlives_a_store_that_is_away() -> None:
    """For a minute nothing can be committed; afterwards claims go on by themselves."""
    async with house(rule(steps=KICK), work=False) as h:
        run_id = await h.fire()
        h.disk(full=True)
        h.worker.start()
        await asyncio.sleep(60)
        assert not h.worker.store_ok
        h.disk(full=False)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert h.worker.store_ok


async def test_the_loop_outlives_a_bug() -> None:
    """An error nobody planned for in one claim is logged, and the loop goes on claiming."""
    async with house(rule(steps=KICK)) as h:
        claim, failed = h.store.claim, list[int]()

        async def broken(owner: str, lease: float, most: int):  # type: ignore[no-untyped-def]  # fails once
            if not failed:
                failed.append(1)
                raise KeyError("a bug")
            return await claim(owner, lease, most)

        h.store.claim = broken  # type: ignore[method-assign]  # a bug cannot be had in another way
        assert (await h.end(await h.fire())).state is State.SUCCEEDED
        assert failed


async def test_a_crash_in_every_phase_ends_well() -> None:
    """The owner dies at a hundred different moments of a run of two steps; each time the run ends once and right."""
    for number in range(100):
        async with house(rule(PROBE % ", wait: 1.0", steps=TWO), place(Outside())) as h:
            h.places["here"].outside.faults += ["slow 1"] * 2
            run_id = await h.fire()
            await asyncio.sleep(number * 0.05)
            await crash(h)
            h.worker.start()
            run = await h.end(run_id)
            assert run.state is State.SUCCEEDED
            assert h.places["here"].outside.values == {"lamp": 3, "door": 1}
