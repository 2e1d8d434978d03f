"""The closed loop under virtual time: remedies in their order, what did not help undone, final steps in any case."""

from __future__ import annotations

import asyncio
import textwrap

import pytest

from remediator.guard import Verdict
from remediator.run import State
from remediator.store import Pause
from tests.engine_world import EPOCH, Gate, House, Outside, house, place

pytestmark = pytest.mark.looptime

TURN = "{uses: place.turn, target: here, with: {thing: %s, to: %d}}"
VERIFY = "verify: {until: alert.resolved, within: 10m, every: 15s}"


def rules(body: str, *, mode: str = "auto", name: str = "one") -> str:
    """A rule file with one rule called ``name``; ``body`` is what follows its head."""
    head = f"  - name: {name}\n    mode: {mode}\n    when: {{alert: Alarm}}\n"
    return "rules:\n" + head + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n"


LADDER = f"""
remedies:
  - name: workers
    steps: [{TURN % ("workers", 5)}]
    {VERIFY}
  - name: restart
    steps: [{TURN % ("epoch", 1)}]
    {VERIFY}
"""


def values(h: House) -> dict[str, int]:
    """What is true outside now."""
    return h.places["here"].outside.values


async def states(h: House, run_id: str) -> list[str]:
    """How each remedy of a run is called."""
    return [remedy["state"] for remedy in (await h.store.run(run_id)).progress["remedies"]]


# remedies -------------------------------------------------------------------------------------------------------------


async def test_what_did_not_help_is_undone_and_the_next_remedy_helps() -> None:
    """The first remedy is given its time, goes back when it did not help, and the second ends the problem."""
    async with house(rules(LADDER)) as h:
        values(h)["workers"] = 3
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        assert values(h) == {"workers": 5}
        await asyncio.sleep(601)
        await h.state(run_id, State.VERIFYING)
        assert values(h) == {"workers": 3, "epoch": 1}
        await asyncio.sleep(60)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "verified")
        assert await states(h, run_id) == ["ineffective", "helped"]
        assert [(e.step, e.subject) for e in h.effects] == [
            ("step0", "workers"), ("undo_step0", "workers"), ("step1", "epoch"),
        ]  # fmt: skip
        assert await h.events(run_id) == [
            "run.queued", "run.started", "effect.intent", "effect.outcome", "run.verifying",
            "run.held", "run.resumed", "effect.intent", "effect.outcome", "run.running",
            "effect.intent", "effect.outcome", "run.verifying", "run.succeeded",
        ]  # fmt: skip


async def test_when_no_remedy_helps_everything_is_undone_and_the_run_has_failed() -> None:
    """After the last remedy nothing of ours is left behind, and the run says what was tried and undone."""
    async with house(rules(LADDER)) as h:
        values(h).update(workers=3, epoch=0)
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "ineffective")
        assert "still there after 10m" in run.message and "undone: step1" in run.message
        assert values(h) == {"workers": 3, "epoch": 0}
        assert await states(h, run.id) == ["ineffective", "ineffective"]
        assert h.clock.now() == pytest.approx(EPOCH + 1200, abs=5)


async def test_keep_leaves_what_was_changed() -> None:
    """Where the author says so, an ineffective change stays."""
    async with house(rules(LADDER.replace("name: workers", "name: workers\n    keep: true"))) as h:
        values(h).update(workers=3, epoch=0)
        run = await h.end(await h.fire())
        assert run.state is State.FAILED
        assert values(h) == {"workers": 5, "epoch": 0}


async def test_what_somebody_else_changed_meanwhile_is_not_undone() -> None:
    """Undoing compares first: a person's later change is left alone, and told."""
    async with house(rules(LADDER)) as h:
        values(h)["workers"] = 3
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        values(h)["workers"] = 9
        run = await h.end(run_id)
        assert values(h)["workers"] == 9
        steps = {step["id"]: step for step in run.progress["steps"]}
        assert steps["undo_step0"]["state"] == "failed"
        assert "workers is 9 and not 5" in steps["undo_step0"]["outcome"]["summary"]
        assert steps["step0"]["state"] == "done", "what stays changed is not told to be undone"
        assert len([e for e in h.effects if e.subject == "epoch"]) == 2, "the next remedy was tried nevertheless"


async def test_a_step_that_fails_ends_its_remedy_and_undoes_the_steps_before_it() -> None:
    """Half a remedy is no remedy: what its first steps did goes back, in reverse order, before the next is tried."""
    body = f"""
    remedies:
      - name: first
        steps:
          - {TURN % ("a", 1)}
          - {TURN % ("b", 1)}
          - {{uses: place.put, target: here, with: {{thing: c, to: 1}}}}
        {VERIFY}
      - name: second
        steps: [{TURN % ("d", 1)}]
    """
    async with house(rules(body)) as h:
        h.places["here"].outside.faults.extend(["fine", "fine", "denied"])
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.SUCCEEDED, "done")
        assert [(e.step, e.subject) for e in h.effects] == [
            ("step0", "a"), ("step1", "b"), ("undo_step1", "b"), ("undo_step0", "a"), ("step3", "d"),
        ]  # fmt: skip
        assert values(h) == {"a": 0, "b": 0, "d": 1}


async def test_a_remedy_whose_if_is_not_so_is_skipped_and_says_why() -> None:
    """A condition that is false or cannot be told skips its remedy; the audit keeps why."""
    body = f"""
    probes: [{{id: seen, uses: place.look, target: here, with: {{thing: lamp}}}}]
    remedies:
      - {{name: dark, if: probes.seen.n == 7, steps: [{TURN % ("a", 1)}]}}
      - {{name: unknown, if: labels.nobody == "x", steps: [{TURN % ("b", 1)}]}}
      - {{name: light, if: probes.seen.n == 0, steps: [{TURN % ("c", 1)}]}}
    """
    async with house(rules(body)) as h:
        run = await h.end(await h.fire())
        assert run.state is State.SUCCEEDED
        assert {e.subject for e in h.effects} == {"c"}
        told = run.progress["remedies"]
        assert [each["state"] for each in told] == ["skipped", "skipped", "helped"]
        assert "not so" in told[0]["message"] and "cannot be told" in told[1]["message"]


async def test_where_no_remedy_applies_nothing_is_done() -> None:
    """Every condition says no: the run is denied, and tells each no."""
    body = f"""
    remedies:
      - {{name: one, if: severity == "SEV1", steps: [{TURN % ("a", 1)}]}}
      - {{name: two, if: severity == "SEV2", steps: [{TURN % ("b", 1)}]}}
    """
    async with house(rules(body)) as h:
        run = await h.end(await h.fire(severity="warning"))
        assert (run.state, run.reason) == (State.DENIED, "if")
        assert "one: not so" in run.message and "two: not so" in run.message
        assert h.effects == []


async def test_a_later_remedy_reads_what_an_earlier_one_found() -> None:
    """Conditions see the results of earlier steps, and probes are read anew for each remedy."""
    body = f"""
    probes: [{{id: seen, uses: place.look, target: here, with: {{thing: lamp}}}}]
    remedies:
      - name: first
        keep: true
        steps: [{{id: set, uses: place.put, target: here, with: {{thing: lamp, to: 4}}}}]
        {VERIFY}
      - name: second
        if: probes.seen.n == 4 && steps.set.n == 4
        steps: [{TURN % ("door", 2)}]
    """
    async with house(rules(body)) as h:
        run = await h.end(await h.fire())
        assert run.state is State.SUCCEEDED and values(h) == {"lamp": 4, "door": 2}


async def test_when_the_alert_resolves_no_further_remedy_is_tried() -> None:
    """An alert that goes while the failed remedy is undone ends the run; nothing more is done to a healthy system."""
    async with house(rules(LADDER)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        h.places["here"].outside.faults.append("slow 30")
        await asyncio.sleep(610)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.FAILED, "ineffective")
        assert {e.subject for e in h.effects} == {"workers"}


# verification ---------------------------------------------------------------------------------------------------------


async def test_completed_but_ineffective_is_a_failure() -> None:
    """kubernaut #1091: a step that was carried out says nothing about the problem; only the symptom does."""
    async with house(rules(f"steps: [{TURN % ('a', 1)}]\n{VERIFY}")) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "ineffective")


async def test_an_unknown_symptom_is_neither_success_nor_failure_to_help() -> None:
    """kubernaut #616: a probe that answers nothing proves nothing; nothing is tried blindly, a person looks."""
    body = f"""
    probes: [{{id: seen, uses: place.look, target: there, with: {{thing: lamp}}}}]
    remedies:
      - name: first
        steps: [{TURN % ("a", 1)}]
        verify: {{until: probes.seen.n == 1, within: 1m, every: 15s}}
      - {{name: second, steps: [{TURN % ("b", 1)}]}}
    """
    async with house(rules(body), place(), place(Outside(away=True), name="there")) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "unknown_verification")
        assert values(h) == {"a": 1}
        assert (await states(h, run.id))[0] == "unknown"


async def test_a_flapping_symptom_is_no_cure() -> None:
    """`settle`: the problem must stay away without a break before the run counts as a success."""
    body = f"""
    probes: [{{id: seen, uses: place.look, target: here, with: {{thing: lamp}}}}]
    steps: [{TURN % ("a", 1)}]
    verify: {{until: probes.seen.n == 0, within: 10m, every: 10s, settle: 1m}}
    """
    async with house(rules(body)) as h:
        run_id = await h.fire()
        await asyncio.sleep(50)
        values(h)["lamp"] = 1
        await asyncio.sleep(30)
        values(h)["lamp"] = 0
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "verified")
        assert EPOCH + 140 <= h.clock.now() <= EPOCH + 160


async def test_what_was_seen_before_acting_proves_no_cure() -> None:
    """kubernaut #364: evidence from before the step does not say whether it helped; the symptom is looked at anew."""
    body = """
    probes: [{id: seen, uses: place.look, target: here, with: {thing: lamp}}]
    steps: [{uses: place.put, target: here, with: {thing: lamp, to: 1}}]
    verify: {until: probes.seen.n == 0, within: 30s, every: 10s}
    """
    async with house(rules(body)) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "ineffective")


# waiting --------------------------------------------------------------------------------------------------------------


async def test_a_wait_takes_its_time_and_survives_a_restart() -> None:
    """A wait is a fact in the store: another owner goes on where it ends, not from its beginning."""
    body = f"steps: [{TURN % ('a', 1)}, {{wait: 15m}}, {TURN % ('b', 1)}]"
    async with house(rules(body)) as h:
        run_id = await h.fire()
        held = await h.state(run_id, State.HELD)
        assert held.reason == "waiting" and values(h) == {"a": 1}
        await asyncio.sleep(300)
        await h.worker.drain(1.0)
        h.worker = h.new_worker("second")
        h.worker.start()
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED and values(h) == {"a": 1, "b": 1}
        assert h.clock.now() == pytest.approx(EPOCH + 900, abs=2)


async def test_a_wait_for_something_goes_on_when_it_is_so() -> None:
    """Draining: the step is over as soon as the condition holds, seen anew at each look."""
    body = f"""
    probes: [{{id: jobs, uses: place.look, target: here, with: {{thing: jobs}}}}]
    steps:
      - {{wait: {{until: probes.jobs.n == 0, within: 5m, every: 5s}}}}
      - {TURN % ("a", 1)}
    """
    async with house(rules(body)) as h:
        values(h)["jobs"] = 3
        run_id = await h.fire()
        await asyncio.sleep(62)
        assert "a" not in values(h)
        values(h)["jobs"] = 0
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert h.clock.now() <= EPOCH + 68


async def test_a_wait_for_something_that_never_comes_fails_its_remedy() -> None:
    """After its time the step has failed, and what the remedy did before is undone."""
    body = f"""
    probes: [{{id: jobs, uses: place.look, target: here, with: {{thing: jobs}}}}]
    steps:
      - {TURN % ("paused", 1)}
      - {{wait: {{until: probes.jobs.n == 0, within: 1m, every: 5s}}}}
      - {TURN % ("a", 1)}
    """
    async with house(rules(body)) as h:
        values(h).update(jobs=3, paused=0)
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "wait_timeout")
        assert values(h) == {"jobs": 3, "paused": 0}


# in any case ----------------------------------------------------------------------------------------------------------

PAUSED = f"""
steps:
  - {{uses: place.put, target: here, with: {{thing: paused, to: 1}}}}
  - {{uses: place.kick, target: here, with: {{thing: lamp}}}}
finally:
  - {{uses: place.put, target: here, with: {{thing: paused, to: 0}}}}
{VERIFY}
"""


async def test_final_steps_run_when_the_remedy_helped() -> None:
    """A paused queue is resumed after a success as well."""
    async with house(rules(PAUSED)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        assert values(h) == {"paused": 1}
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "verified") and values(h) == {"paused": 0}


@pytest.mark.parametrize(
    ("fault", "state"), [("denied", State.FAILED), ("lost reply", State.NEEDS_HUMAN), ("no answer", State.NEEDS_HUMAN)]
)
async def test_final_steps_run_however_a_step_fails(fault: str, state: State) -> None:
    """Whether a step failed or its outcome is unknown, what was paused is resumed before a person is called."""
    async with house(rules(PAUSED)) as h:
        h.places["here"].outside.faults.extend(["fine", fault])
        run = await h.state(await h.fire(), state)
        assert values(h) == {"paused": 0}
        assert run.progress["steps"][2]["state"] == "done"


async def test_final_steps_run_when_the_run_is_cancelled_half_way() -> None:
    """A person ends a run that waits between its steps: it resumes first what it paused."""
    body = PAUSED.replace("  - {uses: place.kick", "  - {wait: 15m}\n  - {uses: place.kick")
    async with house(rules(body)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.store.cancel(run_id, "user:ann", "enough")
        h.wake()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.CANCELLED, "by_person") and values(h) == {"paused": 0}
        assert "user:ann" in run.message


async def test_final_steps_do_not_run_where_nothing_was_begun() -> None:
    """There is nothing to put in order after a no before the first effect."""
    async with house(rules("guards: [{gate: shut}]\n" + textwrap.dedent(PAUSED))) as h:

        async def no(context: object) -> Verdict:
            return Verdict.deny("shut", "the gate is shut")

        Gate.answers["shut"] = no
        run = await h.end(await h.fire())
        assert run.state is State.DENIED and h.effects == []


async def test_a_final_step_that_fails_is_told_and_the_others_run() -> None:
    """One broken final step does not keep the rest from running, nor does it hide."""
    body = PAUSED.replace("finally:\n", "finally:\n  - {uses: place.put, target: here, with: {thing: broken, to: 1}}\n")
    async with house(rules(body)) as h:
        h.places["here"].outside.faults.extend(["fine", "fine", "denied"])
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        await h.resolve()
        run = await h.end(run_id)
        assert values(h) == {"paused": 0}
        assert run.state is State.SUCCEEDED and "not put in order: step2: " in run.message


async def test_final_steps_run_after_a_crash() -> None:
    """The owner dies while it acts: whoever takes over finds an unknown outcome, puts things in order, and calls."""
    async with house(rules(PAUSED), lease=30.0) as h:
        h.places["here"].outside.faults.extend(["fine", "slow 1000"])
        run_id = await h.fire()
        await asyncio.sleep(5)
        for task in [*h.worker._tasks]:
            task.cancel()
        await h.worker.drain(0.0)
        h.worker = h.new_worker("second")
        h.worker.start()
        run = await h.state(run_id, State.NEEDS_HUMAN)
        assert values(h) == {"paused": 0}
        assert run.reason == "unknown_outcome"


async def test_the_kill_switch_holds_what_puts_in_order() -> None:
    """While everything is paused nothing is undone either; it is done when the pause is over."""
    async with house(rules(LADDER)) as h:
        values(h).update(workers=3)
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        await h.store.pause(Pause("global", "stop", "user:ann", h.clock.now(), None))
        held = await h.state(run_id, State.HELD)
        while held.reason != "paused":
            await asyncio.sleep(1)
            held = await h.store.run(run_id)
        assert values(h)["workers"] == 5
        await h.store.resume("global", "user:ann", "")
        h.wake()
        await h.state(run_id, State.VERIFYING)
        assert values(h)["workers"] == 3


async def test_cancelling_a_run_that_is_to_undo_something_undoes_it_first() -> None:
    """A pause keeps an ineffective change from being undone, and a person cancels: it goes back, and that is all."""
    async with house(rules(LADDER)) as h:
        values(h).update(workers=3)
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        await h.store.pause(Pause("global", "stop", "user:ann", h.clock.now(), None))
        await h.state(run_id, State.HELD)
        await asyncio.sleep(60)
        await h.store.cancel(run_id, "user:ann", "enough")
        await h.store.resume("global", "user:ann", "")
        h.wake()
        run = await h.end(run_id)
        assert (run.state, run.reason, values(h)) == (State.FAILED, "ineffective", {"workers": 3})
        assert "undone: step0" in run.message


async def test_a_yes_covers_the_whole_remedy_and_what_follows_it() -> None:
    """People see every step and the final ones; the yes lasts until the run is done, also over a long wait."""
    body = f"""
    steps: [{TURN % ("a", 1)}, {TURN % ("b", 1)}]
    finally: [{TURN % ("a", 0)}]
    """
    async with house(rules(body, mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        approval = await h.store.approval(run_id)
        assert approval is not None
        assert [change["id"] for change in approval.changes] == ["step0", "step1", "step2"]
        assert "in any case afterwards" in approval.changes[2]["change"]["summary"]
        await h.vote(run_id)
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED and values(h) == {"a": 0, "b": 1}
