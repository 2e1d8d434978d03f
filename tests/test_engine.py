"""The straight line under virtual time: every question asked before an effect, and what each answer leads to."""

from __future__ import annotations

import asyncio

import pytest

from remediator.guard import GuardContext, Verdict
from remediator.run import State
from remediator.store import Pause
from tests.engine_world import EPOCH, Gate, House, Outside, house, place

pytestmark = pytest.mark.looptime


def rule(more: str = "", *, name: str = "one", mode: str = "auto", steps: str = "", alert: str = "Alarm") -> str:
    """A rule file with one rule that puts the lamp to 3, unless ``steps`` says something else."""
    steps = steps or "- {uses: place.put, target: here, with: {thing: lamp, to: 3}}"
    lines = [f"  - name: {name}", f"    mode: {mode}", f"    when: {{alert: {alert}}}", "    steps:"]
    lines += [f"      {line}" for line in steps.splitlines()]
    lines += [f"    {line}" for line in more.splitlines()]
    return "rules:\n" + "\n".join(lines) + "\n"


KICK = "- {uses: place.kick, target: here, with: {thing: lamp}}"
TWO = """- {id: first, uses: place.put, target: here, with: {thing: lamp, to: 3}}
- {id: second, uses: place.put, target: here, with: {thing: door, to: 1}}"""
PROBE = "probes: [{id: seen, uses: place.look, target: here, with: {thing: lamp%s}}]"


def says(name: str, *verdicts: Verdict | Exception) -> list[GuardContext]:
    """The gate gives these answers one after the other, the last one for ever; returns what it was asked."""
    asked: list[GuardContext] = []

    async def answer(context: GuardContext) -> Verdict:
        asked.append(context)
        verdict = verdicts[min(len(asked), len(verdicts)) - 1]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    Gate.answers[name] = answer
    return asked


# the way through ------------------------------------------------------------------------------------------------------


async def test_the_whole_line_leaves_one_record_for_every_move() -> None:
    """An alert becomes one effect, the problem goes, and the audit tells each move, in order, without a gap."""
    async with house(rule("verify: {until: alert.resolved, within: 10m, every: 15s}")) as h:
        run_id = await h.fire()
        run = await h.state(run_id, State.VERIFYING)
        assert "waits up to 10m" in run.message
        await asyncio.sleep(100)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "verified")
        assert h.clock.now() == pytest.approx(EPOCH + 100, abs=0.1), "the end of the alert wakes the run at once"
        assert await h.events(run_id) == [
            "run.queued", "run.started", "effect.intent", "effect.outcome", "run.verifying", "run.succeeded",
        ]  # fmt: skip
        assert h.places["here"].outside.values == {"lamp": 3}


async def test_a_rule_without_verify_succeeds_when_its_steps_are_done() -> None:
    """Where nothing else was asked for, the last outcome is the end."""
    async with house(rule(steps=TWO)) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.SUCCEEDED, "done")
        assert h.places["here"].outside.values == {"lamp": 3, "door": 1}
        assert len(h.effects) == 2


async def test_an_alert_that_resolved_while_the_step_acted_is_noticed_at_once() -> None:
    """The end of the alert comes in the middle of the effect: verification does not wait for its next turn."""
    async with house(rule("verify: {until: alert.resolved, within: 10m, every: 5m}", steps=KICK)) as h:
        h.places["here"].outside.faults.append("slow 20")
        run_id = await h.fire()
        await asyncio.sleep(10)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "verified")
        assert h.clock.now() < EPOCH + 25


async def test_nothing_to_do_is_not_an_effect() -> None:
    """A target that already is as wanted is left alone, and the record says so instead of claiming an effect."""
    outside = Outside(values={"lamp": 3})
    async with house(rule(), place(outside)) as h:
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert run.reason == "nothing_to_do"
        assert "lamp 3 → 3" in run.message
        assert not h.effects
        assert "effect.intent" not in await h.events(run_id)


async def test_an_alert_that_began_again_was_not_cured() -> None:
    """When the end of a life was lost and the alert fires anew, the run that waits for its end has failed, not won."""
    async with house(rule("verify: {until: alert.resolved, within: 10m, every: 15s}")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        await asyncio.sleep(180)
        again = await h.fire()
        assert again and again != run_id
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.FAILED, "ineffective")


async def test_a_problem_that_stays_makes_the_run_a_failure() -> None:
    """Success is the symptom gone, not the API's 200: after ``within`` the run has failed as ineffective."""
    async with house(rule("verify: {until: alert.resolved, within: 10m, every: 15s}")) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.FAILED, "ineffective")
        assert h.clock.now() == pytest.approx(EPOCH + 600, abs=1)
        assert run.progress["verify"]["looks"] == 39


async def test_until_is_asked_again_every_so_often_with_fresh_evidence() -> None:
    """``until`` over a probe looks anew each time and ends the run at the first look at which it holds."""
    more = PROBE % "" + "\nverify: {until: probes.seen.n == 7, within: 10m, every: 15s}"
    async with house(rule(more, steps=KICK)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.VERIFYING)
        await asyncio.sleep(40)
        h.places["here"].outside.values["lamp"] = 7
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED
        assert h.clock.now() == pytest.approx(EPOCH + 45, abs=1)


async def test_for_waits_from_the_start_of_the_alert() -> None:
    """``for: 2m`` acts when the alert has fired for two minutes, counted from its start and not from its delivery."""
    text = rule().replace("alert: Alarm", "alert: Alarm, for: 2m")
    async with house(text) as h:
        run_id = await h.fire(since=EPOCH - 30)
        await h.end(run_id)
        assert h.effects[0].begun == pytest.approx(EPOCH + 90, abs=0.1)


# conditions and probes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "ends"),
    [
        ("labels.env == 'prod'", State.SUCCEEDED),
        ("labels.env == 'test'", State.DENIED),
        ("labels.region == 'eu'", State.DENIED),  # there is no such label: it cannot be told
        ("count == 1 && alerts[0].status == 'firing'", State.SUCCEEDED),
    ],
)
async def test_a_condition_decides_and_what_cannot_be_told_is_a_no(condition: str, ends: State) -> None:
    """``when.condition`` that is false or cannot be answered ends the run as denied, with the expression."""
    text = rule().replace("alert: Alarm", f'alert: Alarm, condition: "{condition}"')
    async with house(text) as h:
        run = await h.end(await h.fire(env="prod"))
        assert run.state is ends
        if ends is State.DENIED:
            assert run.reason == "condition"
            assert condition in run.message
            assert not h.effects


@pytest.mark.parametrize(
    ("setting", "expression", "ends"),
    [
        ("", "probes.seen.n == 0", State.SUCCEEDED),
        ("", "probes.seen.n > 0", State.DENIED),
        ("away", "probes.seen.n == 0", State.DENIED),
        ("away", "true || probes.seen.n == 0", State.SUCCEEDED),
        ("slow", "probes.seen.n == 0", State.DENIED),
        ("bug", "probes.seen.n == 0", State.DENIED),
        ("nan", "probes.seen.n == 0", State.DENIED),
        ("forbidden", "probes.seen.n == 0", State.DENIED),
        ("missing", "probes.seen.n == 0", State.DENIED),
    ],
)
async def test_a_probe_that_cannot_see_is_a_no(setting: str, expression: str, ends: State) -> None:
    """Whatever keeps a probe from seeing (down, slow, buggy, not JSON, not permitted, gone) is unknown, and a no."""
    shape = {"slow": ", wait: 11.0", "bug": ", shape: bug", "nan": ", shape: nan"}.get(setting, "")
    text = rule(PROBE % shape + f"\nif: {expression}", steps=KICK)
    async with house(text) as h:
        outside = h.places["here"].outside
        outside.away = setting == "away"
        if setting == "forbidden":
            await h.reload(None, place(outside, things=["door"]))
        if setting == "missing":
            await h.reload(None, place(outside, name="there"))
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state is ends
        if ends is State.DENIED:
            assert run.reason == ("no_evidence" if setting else "if")
            (told,) = await h.details(run_id, "run.denied")
            assert told["evidence"]["seen"]["ok"] is (setting == "")
            assert (told["evidence"]["seen"]["error"] != "") is (setting != "")


# guards ---------------------------------------------------------------------------------------------------------------


async def test_a_guard_that_holds_until_is_asked_again_exactly_then() -> None:
    """A hold with an end wakes at its end, not before and not at the next poll after it."""
    async with house(rule("guards: [{gate: shut}]")) as h:
        asked = says("shut", Verdict.hold("tide", "the tide is out", EPOCH + 1234.5), Verdict.allow())
        run_id = await h.fire()
        run = await h.state(run_id, State.HELD)
        assert (run.reason, run.message) == ("tide", "the tide is out")
        await h.end(run_id)
        assert [context.now for context in asked] == pytest.approx([EPOCH, EPOCH + 1234.5], abs=0.02)
        assert h.effects[0].begun == pytest.approx(EPOCH + 1234.5, abs=0.02)


async def test_a_hold_without_an_end_is_looked_at_again() -> None:
    """A guard that cannot say until when is asked again every fifteen seconds."""
    async with house(rule("guards: [{gate: shut}]")) as h:
        asked = says("shut", Verdict.hold("tide", "out"), Verdict.hold("tide", "out"), Verdict.allow())
        await h.end(await h.fire())
        assert [context.now - EPOCH for context in asked] == pytest.approx([0, 15, 30], abs=0.1)


async def test_a_guard_that_denies_ends_the_run() -> None:
    """One deny is the end, and the record has every guard's verdict."""
    async with house(rule("guards: [{gate: open}, {gate: shut}]")) as h:
        says("shut", Verdict.deny("freeze", "nobody deploys today"))
        run_id = await h.fire()
        run = await h.end(run_id)
        assert (run.state, run.reason, run.message) == (State.DENIED, "freeze", "nobody deploys today")
        (told,) = await h.details(run_id, "run.denied")
        assert [(v["guard"], v["decision"]) for v in told["verdicts"]] == [
            ("pause", "allow"), ("feedback", "allow"), ("gate", "allow"), ("gate", "deny"),
        ]  # fmt: skip
        assert not h.effects


async def test_a_guard_that_raises_denies() -> None:
    """A guard that cannot be evaluated is a no, never a yes and never a crash."""
    async with house(rule("guards: [{gate: broken}]")) as h:
        says("broken", RuntimeError("its data is gone"))
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.DENIED, "guard_error")
        assert not h.effects


async def test_a_guard_that_never_answers_denies() -> None:
    """A guard that hangs is a guard that cannot be evaluated."""
    async with house(rule("guards: [{gate: silent}]")) as h:

        async def silence(context: GuardContext) -> Verdict:
            await asyncio.sleep(1e9)
            return Verdict.allow()

        Gate.answers["silent"] = silence
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.DENIED, "guard_error")
        assert h.clock.now() < EPOCH + 60


async def test_a_rate_limit_holds_until_there_is_room_and_loses_nobody() -> None:
    """Three an hour are three in any hour; the fourth acts when the first has left the window."""
    async with house(rule("guards: [{rate_limit: {runs: 3, per: 1h}}]\nmax_age: 2h", steps=KICK)) as h:
        runs = [await h.fire(n=str(number)) for number in range(4)]
        for run_id in runs:
            assert (await h.end(run_id)).state is State.SUCCEEDED
        assert [e.begun - EPOCH for e in h.effects] == pytest.approx([0, 0, 0, 3600], abs=0.1)


async def test_a_cooldown_counts_from_the_end_of_the_run_before() -> None:
    """The next run acts ten minutes after the one before has ended, which includes its verification."""
    more = "guards: [{cooldown: 10m}]\nverify: {until: alert.resolved, within: 5m}\nmax_age: 2h"
    async with house(rule(more, steps=KICK)) as h:
        first, second = await h.fire(n="1"), await h.fire(n="2")
        assert (await h.end(first)).reason == "ineffective"
        run = await h.state(second, State.HELD)
        assert run.reason == "cooldown"
        await h.end(second)
        assert h.effects[1].begun == pytest.approx(EPOCH + 300 + 600, abs=16)


# pauses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "rule:one", "target:here"])
async def test_a_pause_holds_and_a_resume_lets_go(scope: str) -> None:
    """Nothing acts under a pause of everything, of the rule or of its target; after the resume the run goes on."""
    async with house(rule()) as h:
        await h.store.pause(Pause(scope, "a drill", "user:ann", h.clock.now(), None))
        run_id = await h.fire()
        run = await h.state(run_id, State.HELD)
        assert run.reason == "paused"
        await asyncio.sleep(1800)
        assert not h.effects
        await h.store.resume(scope, "user:ann", "over")
        h.wake()
        assert (await h.end(run_id)).state is State.SUCCEEDED


@pytest.mark.parametrize("scope", ["rule:other", "target:there"])
async def test_a_pause_of_something_else_holds_nobody(scope: str) -> None:
    """A pause reaches what it names and nothing else."""
    async with house(rule()) as h:
        await h.store.pause(Pause(scope, "a drill", "user:ann", h.clock.now(), None))
        assert (await h.end(await h.fire())).state is State.SUCCEEDED


async def test_a_pause_that_runs_out_lets_go_by_itself() -> None:
    """``pause --for 30m`` is half an hour: what it held acts then, though nobody resumes."""
    async with house(rule("max_age: 12h")) as h:
        await h.store.pause(Pause("rule:one", "a drill", "user:ann", h.clock.now(), EPOCH + 1800))
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.end(run_id)
        assert h.effects[0].begun == pytest.approx(EPOCH + 1800, abs=2)


async def test_a_pause_during_the_deliberation_stops_the_licence() -> None:
    """The pause comes after the guards said yes and before the licence: the licence transaction sees it."""
    async with house(rule("guards: [{gate: slow}]")) as h:

        async def slowly(context: GuardContext) -> Verdict:
            await h.store.pause(Pause("global", "now", "user:ann", h.clock.now(), None))
            return Verdict.allow()

        Gate.answers["slow"] = slowly
        run = await h.state(await h.fire(), State.HELD)
        assert run.reason == "paused"
        assert not h.effects


async def test_a_pause_between_two_steps_holds_the_second() -> None:
    """A pause never interrupts an effect, and no further one begins: the second step waits, the first stays done."""
    async with house(rule(steps=TWO)) as h:
        h.places["here"].outside.faults.append("slow 20")
        run_id = await h.fire()
        await asyncio.sleep(10)
        await h.store.pause(Pause("target:here", "now", "user:ann", h.clock.now(), None))
        run = await h.state(run_id, State.HELD)
        assert [step["state"] for step in run.progress["steps"]] == ["done", "waiting"]
        await h.store.resume("target:here", "user:ann", "")
        h.wake()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert h.places["here"].outside.values == {"lamp": 3, "door": 1}


# modes ----------------------------------------------------------------------------------------------------------------


async def test_observe_says_what_it_would_do_and_does_nothing() -> None:
    """Observe mode reads, asks every guard and tells the changes; the outside is not touched."""
    async with house(rule(mode="observe", steps=TWO)) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.OBSERVED, "observe")
        assert run.message == "would have done: lamp 0 → 3; door 0 → 1"
        assert h.places["here"].outside.requests == 0


async def test_observe_says_which_limit_would_have_held_it() -> None:
    """Limits count what acted, so an observing rule beside an acting one says that it would have had to wait."""
    more = "guards: [{cooldown: {for: 1h, scope: target}}]"
    looks = rule(more, name="looks", mode="observe", alert="Other")
    text = rule(name="acts", steps=KICK) + looks.removeprefix("rules:\n")
    async with house(text) as h:
        await h.end(await h.fire())
        run = await h.end(await h.fire("Other"))
        assert run.state is State.OBSERVED
        assert "but not now: another run of this target ended less than 1h ago" in run.message


@pytest.mark.parametrize("verdict", [Verdict.deny("freeze", "nobody deploys"), Verdict.hold("tide", "the tide is out")])
async def test_observe_says_which_guard_would_have_stopped_it(verdict: Verdict) -> None:
    """What is observed is what would have happened: a guard's no belongs to it."""
    async with house(rule("guards: [{gate: shut}]", mode="observe")) as h:
        says("shut", verdict)
        run = await h.end(await h.fire())
        assert run.state is State.OBSERVED
        assert f"but not now: {verdict.message}" in run.message


async def test_observe_denies_what_would_be_denied() -> None:
    """A missing permission is seen in observe mode already."""
    async with house(rule(mode="observe")) as h:
        await h.reload(None, place(things=["door"]))
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.DENIED, "not_permitted")


@pytest.mark.parametrize(
    ("most", "ends"), [("observe", State.OBSERVED), ("approve", State.HELD), ("auto", State.SUCCEEDED)]
)
async def test_mode_max_is_the_most_any_rule_may_do(most: str, ends: State) -> None:
    """``--mode.max`` lowers an auto rule to asking or looking."""
    async with house(rule(), mode_max=most) as h:
        run = await h.state(await h.fire(), ends)
        assert bool(h.effects) is (ends is State.SUCCEEDED)
        assert run.state is ends


async def test_mode_max_lowered_in_the_middle_of_a_run_stops_its_next_step() -> None:
    """A run that has acted already and may only observe now ends with a no that says so, not as if it only looked."""
    async with house(rule(steps=TWO)) as h:
        h.places["here"].outside.faults.append("slow 20")
        run_id = await h.fire()
        await asyncio.sleep(10)
        await h.reload(mode_max="observe")
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.DENIED, "mode")
        assert len(h.effects) == 1


# approvals ------------------------------------------------------------------------------------------------------------


async def test_approve_mode_asks_with_the_change_and_acts_after_the_yes() -> None:
    """A person sees exactly what would be changed; nothing happens before the yes and exactly that after it."""
    async with house(rule(mode="approve")) as h:
        run_id = await h.fire()
        run = await h.state(run_id, State.HELD)
        assert run.reason == "approval"
        approval = await h.store.approval(run_id)
        assert approval is not None
        (change,) = approval.changes
        assert (change["uses"], change["target"]) == ("place.put", "here")
        assert change["parameters"] == {"thing": "lamp", "to": 3}
        assert change["change"]["before"] == {"n": 0}
        assert change["change"]["after"] == {"n": 3}
        await asyncio.sleep(300)
        assert not h.effects
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 1


async def test_trap_22_what_acts_on_a_whole_system_waits_for_a_person_in_every_mode() -> None:
    """A rule in mode auto restarts one thing by itself, and asks before it restarts everything; no means nothing."""
    everything = KICK.replace("lamp", "everything")
    async with house(rule(steps=KICK + "\n" + everything)) as h:
        run_id = await h.fire()
        run = await h.state(run_id, State.HELD)
        assert run.reason == "approval"
        assert [effect.subject for effect in h.effects] == ["lamp"]
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert [effect.subject for effect in h.effects] == ["lamp", "everything"]
    async with house(rule(steps=everything)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id, yes=False)
        assert (await h.end(run_id)).state is not State.SUCCEEDED
        assert not h.effects


async def test_a_change_of_the_target_after_the_yes_asks_again() -> None:
    """The yes was for 0 → 3; now it would be 1 → 3: that is another change and gets another question."""
    async with house(rule(mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        first = await h.store.approval(run_id)
        h.places["here"].outside.values["lamp"] = 1
        await h.vote(run_id)
        await asyncio.sleep(1)
        run = await h.state(run_id, State.HELD)
        second = await h.store.approval(run_id)
        assert first is not None
        assert second is not None
        assert first.digest != second.digest
        assert run.reason == "approval"
        assert not h.effects
        told = await h.details(run_id, "approval.requested")
        assert [one["was_granted"] for one in told] == [False, True]
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED


async def test_nobody_answers_and_the_run_expires() -> None:
    """A question has an end: after it the run has expired and a late yes is refused."""
    async with house(rule("guards: [{approval: {expires: 5m}}]")) as h:
        run_id = await h.fire()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.EXPIRED, "approval")
        assert h.clock.now() == pytest.approx(EPOCH + 300, abs=1)
        assert not h.effects


async def test_one_no_denies() -> None:
    """A rejection ends the run at once, by the name of who rejected."""
    async with house(rule(mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id, False, "user:bob")
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.DENIED, "rejected")
        assert "user:bob" in run.message
        assert not h.effects


async def test_two_are_needed_and_one_is_not_enough() -> None:
    """``needed: 2`` acts after two different people and not after one."""
    async with house(rule("guards: [{approval: {needed: 2}}]")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id)
        await asyncio.sleep(60)
        assert not h.effects
        await h.vote(run_id, actor="user:bob")
        assert (await h.end(run_id)).state is State.SUCCEEDED


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_of_two_approval_guards_the_stricter_one_counts(order: tuple[int, int]) -> None:
    """A rule cannot ask fewer people than the settings demand of every rule, nor the other way round."""
    everywhere, here = order
    guards = [{"approval": {"needed": everywhere}}]
    async with house(rule(f"guards: [{{approval: {{needed: {here}}}}}]"), more_guards=guards) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id)
        await asyncio.sleep(60)
        assert not h.effects
        await h.vote(run_id, actor="user:bob")
        assert (await h.end(run_id)).state is State.SUCCEEDED


async def test_one_yes_covers_all_steps_that_could_be_shown() -> None:
    """Steps whose changes are known beforehand are shown together, and one yes is for each of them as shown."""
    async with house(rule(mode="approve", steps=TWO)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(await h.details(run_id, "approval.requested")) == 1
        assert len(h.effects) == 2


async def test_a_step_that_depends_on_the_one_before_asks_when_its_turn_comes() -> None:
    """What a later step would do is not known yet, so the first yes cannot be for it."""
    steps = """- {id: first, uses: place.put, target: here, with: {thing: lamp, to: 3}}
- {uses: place.put, target: here, with: {thing: door, to: "${{ steps.first.n }}"}}"""
    async with house(rule(mode="approve", steps=steps)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id)
        await asyncio.sleep(1)
        await h.state(run_id, State.HELD)
        assert len(h.effects) == 1
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert h.places["here"].outside.values == {"lamp": 3, "door": 3}


async def test_a_second_step_whose_target_changed_asks_again() -> None:
    """The yes of both steps does not cover a second one that would be another change by now."""
    async with house(rule(mode="approve", steps=TWO)) as h:
        outside = h.places["here"].outside
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        outside.faults.append("slow 20")
        await h.vote(run_id)
        await asyncio.sleep(10)
        outside.values["door"] = 9
        run = await h.state(run_id, State.HELD)
        assert run.reason == "approval"
        assert len(h.effects) == 1
        await h.vote(run_id)
        assert (await h.end(run_id)).state is State.SUCCEEDED


async def test_an_alert_that_resolves_while_people_think_cancels_the_question() -> None:
    """Nobody is asked about a problem that is gone, and a yes that comes too late does nothing."""
    async with house(rule(mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.resolve()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.CANCELLED, "resolved")


async def test_an_alert_that_resolves_while_the_question_is_made_cancels_it() -> None:
    """The end of the alert falls between the claim and the question: nobody is kept waiting."""
    async with house(rule(PROBE % ", wait: 5.0", mode="approve")) as h:
        run_id = await h.fire()
        await asyncio.sleep(2)
        await h.resolve()
        run = await h.end(run_id)
        assert run.state is State.CANCELLED
        assert h.clock.now() < EPOCH + 10


# R14: asked again right before acting ---------------------------------------------------------------------------------


async def _change(h: House, what: str) -> None:
    if what == "resolved":
        await h.resolve()
    elif what == "rule_removed":
        await h.reload(rule(name="another"))
    elif what == "rule_changed":
        await h.reload(rule("max_age: 14m"))
    elif what == "no_target":
        await h.reload(None, place(h.places["here"].outside, name="there"))
    elif what == "not_permitted":
        await h.reload(None, place(h.places["here"].outside, things=["door"]))
    else:
        await h.reload(mode_max="observe")


CHANGES = [
    ("resolved", State.CANCELLED), ("rule_removed", State.CANCELLED), ("rule_changed", State.CANCELLED),
    ("no_target", State.DENIED), ("not_permitted", State.DENIED), ("observe", State.OBSERVED),
]  # fmt: skip


@pytest.mark.parametrize(("what", "ends"), CHANGES)
@pytest.mark.parametrize("when", ["queued", "deciding"])
async def test_what_changed_before_the_first_effect_stops_it(what: str, ends: State, when: str) -> None:
    """Resolved, rule gone or edited, target gone, permission or mode withdrawn: no effect, however late it came."""
    text = rule(PROBE % ", wait: 5.0" if when == "deciding" else "")
    if when == "queued":
        text = text.replace("alert: Alarm", "alert: Alarm, for: 2s")
    async with house(text) as h:
        run_id = await h.fire()
        await asyncio.sleep(1)
        await _change(h, what)
        run = await h.end(run_id)
        assert (run.state, run.reason) == (ends, what)
        assert not h.effects


@pytest.mark.parametrize(
    ("what", "ends", "effects"),
    [
        ("resolved", State.SUCCEEDED, 1),
        ("rule_removed", State.SUCCEEDED, 2),  # an edit never reaches a run that has begun to act
        ("rule_changed", State.SUCCEEDED, 2),
        ("no_target", State.DENIED, 1),
        ("not_permitted", State.DENIED, 1),
    ],
)
async def test_what_changed_between_two_steps_decides_the_second(what: str, ends: State, effects: int) -> None:
    """Before a later step the alert, the target and its permissions are asked again; the plan stays as it was."""
    steps = """- {id: first, uses: place.put, target: here, with: {thing: door, to: 3}}
- {id: second, uses: place.put, target: here, with: {thing: lamp, to: 1}}"""
    async with house(rule(steps=steps)) as h:
        h.places["here"].outside.faults.append("slow 20")
        run_id = await h.fire()
        await asyncio.sleep(10)
        await _change(h, what)
        run = await h.end(run_id)
        assert run.state is ends
        assert len(h.effects) == effects


async def test_a_run_that_nobody_could_carry_out_in_time_expires() -> None:
    """After sixteen minutes without a worker the run is dropped and reported, not carried out late."""
    async with house(rule(), work=False) as h:
        run_id = await h.fire()
        await asyncio.sleep(16 * 60)
        h.worker.start()
        run = await h.end(run_id)
        assert (run.state, run.reason) == (State.EXPIRED, "max_age")
        assert not h.effects


# parameters -----------------------------------------------------------------------------------------------------------


async def test_a_probe_reads_what_an_earlier_one_saw_and_nothing_older() -> None:
    """What the second looks at is what the first saw just now; when the first cannot see, the second has not seen."""
    more = """
probes:
  - {id: which, uses: place.look, target: here, with: {thing: which}}
  - {id: seen, uses: place.look, target: here, with: {thing: "t${{ probes.which.n }}"}}
verify: {until: probes.seen.n == 7, within: 10m, every: 15s}
"""
    async with house(rule(more=more)) as h:
        outside = h.places["here"].outside
        outside.values |= {"which": 1, "t1": 5}
        run_id = await h.fire()
        run = await h.state(run_id, State.VERIFYING)
        await asyncio.sleep(1)
        run = await h.store.run(run_id)
        assert (run.progress["evidence"]["seen"]["value"], run.state) == ({"n": 5}, State.VERIFYING)
        outside.away = True
        await asyncio.sleep(20)
        seen = (await h.store.run(run_id)).progress["evidence"]
        assert not seen["which"]["ok"] and not seen["seen"]["ok"] and "probes.which" in seen["seen"]["error"]
        outside.away = False
        outside.values |= {"which": 2, "t2": 7}
        assert (await h.end(run_id)).state is State.SUCCEEDED


async def test_placeholders_take_labels_probes_and_steps_with_their_types() -> None:
    """A parameter may be looked up in a label, in evidence or in an earlier outcome; a number stays a number."""
    steps = """- id: first
  uses: place.put
  target: here
  with: {thing: "${{ labels.thing }}", to: "${{ probes.seen.n }}"}
- {uses: place.put, target: here, with: {thing: door, to: "${{ steps.first.n }}"}}"""
    async with house(rule(PROBE % "", steps=steps)) as h:
        h.places["here"].outside.values["lamp"] = 42
        run = await h.end(await h.fire(thing="fan"))
        assert run.state is State.SUCCEEDED
        assert h.places["here"].outside.values == {"lamp": 42, "fan": 42, "door": 42}


@pytest.mark.parametrize(
    "value", ["../etc", "lamp; rm -rf /", "${{ labels.other }}", "", "LAMP", "l" * 100, "lamp\n", "лампа", "door"]
)
async def test_a_hostile_label_is_denied_and_touches_nothing(value: str) -> None:
    """A value is checked after it was filled in, by the parameter and by the target's permissions."""
    steps = '- {uses: place.put, target: here, with: {thing: "${{ labels.thing }}", to: 1}}'
    async with house(rule(steps=steps), place(things=["lamp", "fan-*"])) as h:
        run = await h.end(await h.fire(thing=value))
        assert run.state is State.DENIED
        assert run.reason in ("parameters", "not_permitted")
        assert h.places["here"].outside.requests == 0


async def test_a_label_that_is_not_there_is_denied() -> None:
    """What cannot be looked up is a no, never an empty text."""
    steps = '- {uses: place.put, target: here, with: {thing: "${{ labels.thing }}", to: 1}}'
    async with house(rule(steps=steps)) as h:
        run = await h.end(await h.fire())
        assert (run.state, run.reason) == (State.DENIED, "parameters")
        assert "labels.thing does not exist" in run.message


async def test_a_diff_that_cannot_be_told_fails_and_a_temporary_one_is_tried_again() -> None:
    """The target is away while its change is read: tried again as the rule says, then failed; nothing was licensed."""
    steps = "- {uses: place.put, target: here, with: {thing: lamp, to: 3}, retry: {attempts: 3, backoff: 10s}}"
    async with house(rule(steps=steps)) as h:
        h.places["here"].outside.away = True
        run_id = await h.fire()
        run = await h.end(run_id)
        assert run.state is State.FAILED
        assert h.clock.now() == pytest.approx(EPOCH + 30, abs=1)
        assert "effect.intent" not in await h.events(run_id)


async def test_a_diff_that_is_tried_again_may_succeed() -> None:
    """The target comes back before the tries are used up: the run goes on as if nothing had been."""
    steps = "- {uses: place.put, target: here, with: {thing: lamp, to: 3}, retry: {attempts: 3, backoff: 10s}}"
    async with house(rule(steps=steps)) as h:
        h.places["here"].outside.away = True
        run_id = await h.fire()
        await asyncio.sleep(15)
        h.places["here"].outside.away = False
        assert (await h.end(run_id)).state is State.SUCCEEDED
