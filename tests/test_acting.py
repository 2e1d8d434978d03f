"""Every way an effect can end, and what an interrupted one means for each effect class."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remediator.action import Effect
from remediator.guard import GuardContext, Verdict
from remediator.run import State
from remediator.store import Claim, Pause
from tests.engine_world import EPOCH, Gate, House, Outside, house, place
from tests.test_engine import PROBE, TWO, rule

pytestmark = pytest.mark.looptime

STEPS = {
    Effect.IDEMPOTENT: "{uses: place.put, target: here, with: {thing: lamp, to: 3}%s}",
    Effect.CONDITIONAL: "{uses: place.swap, target: here, with: {thing: lamp, to: 3}%s}",
    Effect.KEYED: "{uses: place.pay, target: here, with: {thing: lamp, amount: 3}%s}",
    Effect.PROBE: "{uses: place.add, target: here, with: {thing: lamp, by: 3}%s}",
    Effect.ONCE: "{uses: place.kick, target: here, with: {thing: lamp}%s}",
}
KINDS = list(Effect)


def step(kind: Effect, more: str = ", retry: {attempts: 3, backoff: 10s}") -> str:
    """A rule with one step of that effect class, which is tried three times."""
    return rule(steps="- " + STEPS[kind] % more)


# what an action says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_temporary_error_is_tried_again_each_time_under_its_own_licence(kind: Effect) -> None:
    """Refused twice and then let in: three licences with growing pauses, one effect."""
    async with house(step(kind), place(Outside())) as h:
        h.places["here"].outside.faults += ["refused", "refused"]
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        rows = await h.store.effects(run_id)
        assert [(row.attempt, row.state) for row in rows] == [(1, "failed"), (2, "failed"), (3, "done")]
        assert [row.licensed_at - EPOCH for row in rows] == pytest.approx([0, 10, 30], abs=0.2)
        assert len(h.effects) == 1


async def test_tries_are_bounded() -> None:
    """After the last try the run has failed by the reason of the last error."""
    async with house(step(Effect.ONCE)) as h:
        h.places["here"].outside.faults += ["refused"] * 9
        run_id = await h.fire()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.FAILED, "refused")
        assert len(await h.store.effects(run_id)) == 3
        assert h.places["here"].outside.requests == 3


async def test_a_permanent_error_is_not_tried_again() -> None:
    """What no retry can change ends the run at once."""
    async with house(step(Effect.IDEMPOTENT)) as h:
        h.places["here"].outside.faults.append("denied")
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "status_403")
        assert h.places["here"].outside.requests == 1


async def test_an_alert_that_resolves_between_two_tries_cancels() -> None:
    """Two tries certainly did nothing, so a resolved alert cancels the run like one that never began."""
    async with house(step(Effect.ONCE)) as h:
        h.places["here"].outside.faults += ["refused"] * 9
        run_id = await h.fire()
        await asyncio.sleep(5)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.CANCELLED, "resolved")
        assert h.places["here"].outside.requests == 1


async def test_a_pause_between_two_tries_holds_the_next_one() -> None:
    """A try is an effect like any other: the pause comes first."""
    async with house(step(Effect.ONCE)) as h:
        h.places["here"].outside.faults.append("refused")
        run_id = await h.fire()
        await asyncio.sleep(5)
        await h.store.pause(Pause("global", "stop", "user:ann", h.clock.now(), None))
        await asyncio.sleep(60)
        assert (await h.store.run(run_id)).reason == "paused"
        assert h.places["here"].outside.requests == 1


LOST = {
    # (fault, class) → (state, reason, effects, licences)
    ("lost reply", Effect.IDEMPOTENT): (State.SUCCEEDED, "done", 1, 1),  # the next diff finds nothing to do
    ("lost request", Effect.IDEMPOTENT): (State.SUCCEEDED, "done", 1, 2),
    ("lost reply", Effect.CONDITIONAL): (State.SUCCEEDED, "done", 1, 1),
    ("lost request", Effect.CONDITIONAL): (State.SUCCEEDED, "done", 1, 2),
    ("lost reply", Effect.KEYED): (State.SUCCEEDED, "done", 1, 2),
    ("lost request", Effect.KEYED): (State.SUCCEEDED, "done", 1, 2),
    ("lost reply", Effect.PROBE): (State.SUCCEEDED, "done", 1, 1),
    ("lost request", Effect.PROBE): (State.SUCCEEDED, "done", 1, 2),
    ("lost reply", Effect.ONCE): (State.NEEDS_HUMAN, "unknown_outcome", 1, 1),
    ("lost request", Effect.ONCE): (State.NEEDS_HUMAN, "unknown_outcome", 0, 1),
    ("no answer", Effect.IDEMPOTENT): (State.SUCCEEDED, "done", 1, 1),
    ("no answer", Effect.CONDITIONAL): (State.SUCCEEDED, "done", 1, 1),
    ("no answer", Effect.KEYED): (State.SUCCEEDED, "done", 1, 2),
    ("no answer", Effect.PROBE): (State.SUCCEEDED, "done", 1, 1),
    ("no answer", Effect.ONCE): (State.NEEDS_HUMAN, "unknown_outcome", 1, 1),
    ("bug", Effect.ONCE): (State.NEEDS_HUMAN, "unknown_outcome", 0, 1),
    ("bug", Effect.IDEMPOTENT): (State.SUCCEEDED, "done", 1, 2),
}


@pytest.mark.parametrize(("fault", "kind"), LOST)
async def test_an_unknown_outcome_is_treated_as_its_class_says(fault: str, kind: Effect) -> None:
    """Nobody answered: what may be repeated is, what can be seen is looked at, and ``once`` goes to a person."""
    async with house(step(kind)) as h:
        h.places["here"].outside.faults.append(fault)
        run_id = await h.fire()
        run = await h.end(run_id)
        state, reason, effects, licences = LOST[fault, kind]
        assert (run.state, run.reason) == (state, reason)
        assert len(h.effects) == effects
        assert len(await h.store.effects(run_id)) == licences


async def test_an_unknown_outcome_is_never_repeated_more_often_than_the_rule_says() -> None:
    """Repeating is safe for an idempotent action and still bounded by ``retry``."""
    async with house(step(Effect.IDEMPOTENT, "")) as h:
        h.places["here"].outside.faults.append("lost reply")
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "unknown")
        assert len(h.effects) == 1


async def test_what_can_be_seen_is_looked_at_only_when_the_request_is_over() -> None:
    """A request of class ``probe`` may still be under way: what is not there yet must not be sent a second time."""
    async with house(step(Effect.PROBE, ", timeout: 60s, retry: {attempts: 3}")) as h:
        outside = h.places["here"].outside
        outside.faults.append("lost request")
        run_id = await h.fire()
        run = await h.state(run_id, State.HELD)
        assert run.reason == "reconcile"
        await h.end(run_id)
        assert h.effects[0].begun >= EPOCH + 60


@pytest.mark.parametrize("kind", [Effect.CONDITIONAL, Effect.PROBE])
async def test_a_target_that_cannot_be_asked_is_asked_later_and_not_for_ever(kind: Effect) -> None:
    """The reply is lost and the target is away: asked again, twenty times, and then a person must look."""
    async with house(step(kind)) as h:
        h.places["here"].outside.faults.append("lost reply and gone")
        run_id = await h.fire()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.NEEDS_HUMAN, "unknown_outcome")
        assert 250 < h.clock.now() - EPOCH < 900
        assert len(h.effects) == 1
        with pytest.raises(AssertionError):
            await h.state(run_id, State.RUNNING, within=3600)


async def test_a_person_can_close_what_needs_one() -> None:
    """A run that waits for a person is closed by one, with a reason, and acts never again."""
    async with house(step(Effect.ONCE)) as h:
        h.places["here"].outside.faults.append("lost reply")
        run_id = await h.fire()
        await h.end(run_id)
        run = await h.store.cancel(run_id, "user:ann", "looked: the lamp was kicked")
        assert (run.state, run.reason) == (State.CANCELLED, "by_person")
        await asyncio.sleep(3600)
        assert len(h.effects) == 1


async def test_an_outcome_that_is_no_json_is_still_an_outcome() -> None:
    """The effect took place; that its action told something unwritable must not make it unknown."""
    async with house(step(Effect.IDEMPOTENT)) as h:
        registry: Any = h.registry
        real = registry.action("place.put")

        class Put(real):  # type: ignore[misc,valid-type]  # a class made from a looked-up one
            async def apply(self, target: Any, change: Any, context: Any) -> Any:
                from remediator.action import Outcome

                await super().apply(target, change, context)
                return Outcome(summary="odd", data={"n": float("nan")})

        registry._actions["place.put"] = Put
        run = await h.end(await h.fire())
        assert run.state is State.SUCCEEDED
        assert len(h.effects) == 1


# the action's own post-condition --------------------------------------------------------------------------------------

SETTLE = "- {uses: place.settle, target: here, with: {thing: lamp, to: 3}, timeout: 60s}"


async def test_a_step_is_done_when_its_own_post_condition_holds() -> None:
    """The rollout takes twenty seconds: the step waits for it and the run succeeds then."""
    async with house(rule(steps=SETTLE)) as h:
        h.places["here"].outside.settled_after = 20
        run = await h.end(await h.fire())
        assert run.state is State.SUCCEEDED
        assert h.clock.now() == pytest.approx(EPOCH + 20, abs=2)


@pytest.mark.parametrize(("settled", "ends"), [(1e6, 61.0), (-1.0, 1.0)])
async def test_a_post_condition_that_does_not_come_fails(settled: float, ends: float) -> None:
    """Not within the step's time-out, or never: failed as unverified, and not done again."""
    async with house(rule(steps=SETTLE)) as h:
        h.places["here"].outside.settled_after = settled
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "unverified")
        assert h.clock.now() - EPOCH < ends + 1
        assert len(h.effects) == 1


# after a crash --------------------------------------------------------------------------------------------------------

CRASH = {
    # (class, whether the effect took place) → (state, effects)
    (Effect.IDEMPOTENT, True): (State.SUCCEEDED, 1),
    (Effect.IDEMPOTENT, False): (State.SUCCEEDED, 1),
    (Effect.CONDITIONAL, True): (State.SUCCEEDED, 1),
    (Effect.CONDITIONAL, False): (State.SUCCEEDED, 1),
    (Effect.KEYED, True): (State.SUCCEEDED, 1),
    (Effect.KEYED, False): (State.SUCCEEDED, 1),
    (Effect.PROBE, True): (State.SUCCEEDED, 1),
    (Effect.PROBE, False): (State.SUCCEEDED, 1),
    (Effect.ONCE, True): (State.NEEDS_HUMAN, 1),
    (Effect.ONCE, False): (State.NEEDS_HUMAN, 0),
}


async def crash(h: House) -> None:
    """The worker dies where it stands: its tasks are gone, nothing is handed back, nobody renews."""
    worker = h.worker
    tasks = [*worker._tasks, *(c.task for c in worker._carried.values() if c.task is not None)]
    for carried in worker._carried.values():
        carried.lease.acting = True  # A dead process hands nothing back.
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    h.worker = h.new_worker("second")


@pytest.mark.parametrize(("kind", "happened"), CRASH)
async def test_a_crash_while_acting_is_recovered_as_the_class_says(kind: Effect, happened: bool) -> None:
    """The owner dies between its licence and its record; whoever takes over neither loses nor doubles."""
    async with house(step(kind)) as h:
        outside = h.places["here"].outside
        outside.faults.append("no answer" if happened else "slow 1000")
        run_id = await h.fire()
        await asyncio.sleep(5)
        await crash(h)
        h.worker.start()
        run = await h.end(run_id)
        state, effects = CRASH[kind, happened]
        assert run.state is state
        assert len(h.effects) == effects
        assert "run.recovered" in await h.events(run_id)
        if state is State.NEEDS_HUMAN:
            assert run.reason == "unknown_outcome"


async def test_nothing_is_taken_over_before_its_lease_is_over() -> None:
    """A crash is noticed by the lease alone: the next owner begins thirty seconds after the last renewal."""
    async with house(step(Effect.IDEMPOTENT)) as h:
        h.places["here"].outside.faults.append("slow 1000")
        run_id = await h.fire()
        await asyncio.sleep(5)
        await crash(h)
        h.worker.start()
        await h.end(run_id)
        assert h.effects[0].begun == pytest.approx(EPOCH + 30, abs=1.1)


async def test_an_interrupted_effect_is_not_repeated_hours_later() -> None:
    """The service was down for hours: what might be repeated safely is still too old to be repeated (R14)."""
    async with house(step(Effect.IDEMPOTENT)) as h:
        h.places["here"].outside.faults.append("slow 1000")
        run_id = await h.fire()
        await asyncio.sleep(5)
        await crash(h)
        await asyncio.sleep(3 * 3600)
        h.worker.start()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.EXPIRED, "max_age")
        assert not h.effects


async def test_a_run_stopped_half_way_is_not_finished_hours_later() -> None:
    """One step was done before the service went down for hours: the other one is not done late, and that is said."""
    async with house(rule(steps=TWO)) as h:
        h.places["here"].outside.faults += ["fine", "slow 1000"]
        run_id = await h.fire()
        await asyncio.sleep(5)
        await crash(h)
        await asyncio.sleep(3 * 3600)
        h.worker.start()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.EXPIRED, "max_age")
        assert "its last step began 3h" in run.message
        assert len(h.effects) == 1


async def test_a_key_is_never_sent_again_with_another_amount() -> None:
    """What was sent under a key may have been carried out; after the evidence changed, a person decides."""
    steps = """- uses: place.pay
  target: here
  with: {thing: lamp, amount: "${{ probes.seen.n }}"}
  retry: {attempts: 3}"""
    more = PROBE.replace("lamp", "debt") % ""
    async with house(rule(more, steps=steps)) as h:
        outside = h.places["here"].outside
        outside.values["debt"] = 5
        outside.faults.append("lost reply")
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        outside.values["debt"] = 7
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.NEEDS_HUMAN, "unknown_outcome")
        assert outside.values["lamp"] == 5
        assert len(h.effects) == 1


async def test_a_run_whose_owners_keep_dying_goes_to_a_person() -> None:
    """A run that kills whoever takes it is not handed on for ever, and its open licence is closed as unknown."""
    async with house(step(Effect.IDEMPOTENT), lease=30) as h:
        h.places["here"].outside.faults += ["slow 1000"] * 20
        run_id = await h.fire()
        for _ in range(8):
            await asyncio.sleep(5)
            await crash(h)
            await asyncio.sleep(31)
            h.worker.start()
        run = await h.end(run_id)
        assert run.state is State.NEEDS_HUMAN
        assert run.reason in ("poison", "unknown_outcome")
        assert run.tries == 6
        closed = await h.store.cancel(run_id, "user:ann", "seen")
        assert closed.state is State.CANCELLED


# the store and the lease ----------------------------------------------------------------------------------------------


async def test_the_store_is_away_while_an_outcome_is_recorded() -> None:
    """The effect is done and the disk is full for a minute, longer than the lease: the outcome is written then."""
    async with house(step(Effect.ONCE)) as h:
        h.places["here"].outside.then = lambda: h.disk(full=True)
        run_id = await h.fire()
        await asyncio.sleep(60)
        assert (await h.store.run(run_id)).state is State.RUNNING
        assert not h.worker.store_ok
        h.disk(full=False)
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert len(h.effects) == 1


KICK_AND_PUT = f"- {STEPS[Effect.ONCE] % ''}\n- {STEPS[Effect.IDEMPOTENT] % ''}"


async def test_who_lost_its_run_leaves_evidence_and_writes_nothing_more() -> None:
    """Another owner took the run over while the effect was under way: what comes late is kept and moves nothing."""
    async with house(rule(steps=KICK_AND_PUT)) as h:
        h.places["here"].outside.faults.append("slow 100")
        run_id = await h.fire()
        await asyncio.sleep(1)
        for task in h.worker._tasks:
            task.cancel()  # The first owner does not come to renewing: its machine is too busy.
        second = h.new_worker("second")
        second.start()
        run = await h.end(run_id)
        assert run.reason == "unknown_outcome"
        await asyncio.sleep(120)
        assert "effect.late" in await h.events(run_id)
        (late,) = await h.details(run_id, "effect.late")
        assert late["state"] == "done"
        assert (await h.store.run(run_id)).state is State.NEEDS_HUMAN
        assert len(h.effects) == 1, "the second step was not begun by anybody"
        await second.drain(1)


async def test_no_effect_begins_after_the_deadline() -> None:
    """The process stood still between its licence and its effect: the licence is not used any more."""
    async with house(step(Effect.ONCE, "")) as h:
        h.places["here"].outside.faults.append("stopped 25")  # more than eight tenths of the lease
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "licence_expired")
        assert h.places["here"].outside.requests == 0


async def test_a_run_that_was_lost_while_it_was_decided_on_gets_no_licence() -> None:
    """Another owner claimed it in the meantime: the first one is fenced off at the licence, before any effect."""
    async with house(rule("guards: [{gate: slow}]", steps="- " + STEPS[Effect.ONCE] % "")) as h:
        claims: list[Claim] = []

        async def slowly(context: GuardContext) -> Verdict:
            if not claims:
                h.clock.skip(31)
                claims.extend(await h.store.claim("somebody else", 30.0, 5))
            return Verdict.allow()

        Gate.answers["slow"] = slowly
        run_id = await h.fire()
        await asyncio.sleep(10)
        assert [claim.run.id for claim in claims] == [run_id]
        assert (await h.store.run(run_id)).owner == "somebody else"
        assert not h.effects
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 1
