"""People are called under virtual time: when, under which condition, until when, and whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import Conflict
from remediator.escalation import Call
from remediator.run import Kind, Run, State
from remediator.store import Pause
from remediator.worker import Worker
from tests.engine_world import EPOCH, House, Place, TestRegistry, _Lever, house, place

pytestmark = pytest.mark.looptime

MINUTE, HOUR = 60.0, 3600.0


class Hush(_Lever):
    """Calls a call off: keyed."""

    effect: ClassVar[Effect] = Effect.KEYED

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"hush {self.thing}", before={}, after={"hush": self.thing})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        said = (context.clock.now() - EPOCH, f"-{self.thing}", "")
        await self._carry_out(target, context, lambda: Tell.said.append(said))
        return Outcome(summary="hushed")


class Tell(_Lever):
    """Tells somebody something: keyed."""

    effect: ClassVar[Effect] = Effect.KEYED
    said: ClassVar[list[tuple[float, str, str]]] = []
    """Everything that was ever told: when, to whom, what."""
    text: str = Field(default="", description="What is told.")

    async def diff(self, target: Place, context: ActionContext) -> Change:
        return Change(summary=f"tell {self.thing}", before={}, after={"tell": self.thing, "text": self.text})

    async def apply(self, target: Place, change: Change, context: ActionContext) -> Outcome:
        said = (context.clock.now() - EPOCH, self.thing, self.text)
        outside = target.outside
        if context.key in outside.keys:
            # The other side knows the key: it hears it again, and nothing more happens.
            context.check_deadline()
            Tell.said.append(said)
            return Outcome(summary=f"told {self.thing} again")

        def tell() -> None:
            outside.keys[context.key] = 1
            Tell.said.append(said)

        await self._carry_out(target, context, tell)
        return Outcome(summary=f"told {self.thing}")


class Page(Tell):
    """Like Tell, and can be called off."""

    effect: ClassVar[Effect] = Effect.KEYED

    def inverse(self, change: Change) -> Hush:
        # In the catalogue it is named after its file; here after its module, which the registry knows.
        return Hush(thing=self.thing)


class Registry(TestRegistry):
    """With those that tell people."""

    def action(self, name: str) -> type[Action[Any]] | None:
        own: dict[str, type[Action[Any]]] = {"place.tell": Tell, "place.page": Page, "place.test_escalating": Hush}
        return own.get(name) or super().action(name)


RULE = """\
rules:
  - name: one
    mode: MODE
    service: minting
    escalate: oncall
    runbook_url: https://runbooks.example.com/minting
    when: {alert: Alarm}
    IF
    steps: [{uses: place.put, target: here, with: {thing: workers, to: 5}}]
    verify: {until: alert.resolved, within: 10m}
"""
CALLS: list[dict[str, Any]] = [
    {"name": "on call", "uses": "place.page", "target": "phone", "with": {"thing": "oncall"}},
    {
        "name": "lead",
        "after": "15m",
        "if": 'severity == "SEV1"',
        "uses": "place.tell",
        "target": "phone",
        "with": {
            "thing": "lead",
            "text": "${{ handover.title }} ${{ labels.namespace }} ${{ labels.pod }} ${{ reason }}",
        },
        "on_resolve": {"text": "over: ${{ reason }} after ${{ handover.duration }}"},
    },
    {"name": "cto", "after": "1h", "uses": "place.tell", "target": "phone", "with": {"thing": "cto"}},
]


@asynccontextmanager
async def called(
    *calls: Mapping[str, Any], mode: str = "auto", if_: str = "", notify: str = "", rules: str = RULE, **options: Any
) -> AsyncIterator[House]:
    """A house whose rule fails after ten minutes unless the alert resolves, and then calls people."""
    Tell.said.clear()
    rules = rules.replace("MODE", mode).replace("    IF\n", if_)
    policy = [Call.model_validate(call) for call in calls or CALLS]
    severities = {"minting": {"critical": "SEV1"}}
    async with house(rules, place(), place(name="phone"), severities=severities, work=False, **options) as h:
        # Hours pass here: asking the store every second of them would take long.
        h.worker = Worker(h.store, h._engine(), owner="first", clock=h.clock, lease=30.0, poll=20.0)
        h.worker.start()
        h.world = dataclasses.replace(
            h.world,
            registry=Registry(),
            escalations={"oncall": policy},
            approvals_notify=notify,
            external_url="https://remediator.example.com",
        )
        yield h


def said() -> list[tuple[float, str]]:
    """When who was told, to the second."""
    return [(round(at), who) for at, who, _ in Tell.said]


async def escalation(h: House, origin: str) -> Run:
    """The escalation about a run."""
    (found,) = await h.store.runs(kinds=(Kind.ESCALATION,), about=origin)
    return found


async def _failed(h: House, **labels: str) -> tuple[str, float]:
    """A run that has failed, and when that was."""
    given: dict[str, Any] = {"severity": "critical", "namespace": "production", **labels}
    alert = h.alert(**given)
    origin = (await h.post(alert)).runs[0]
    run = await h.state(origin, State.FAILED)
    return origin, round(run.updated_at - EPOCH)


async def test_people_are_called_one_after_the_other() -> None:
    """From the moment people are needed each call comes in its time, with the facts of the run; then it waits."""
    async with called() as h:
        origin, began = await _failed(h)
        await asyncio.sleep(2 * HOUR)
        assert said() == [(began, "oncall"), (began + 15 * MINUTE, "lead"), (began + HOUR, "cto")]
        assert Tell.said[1][2] == "[SEV1] minting: it is bad production (none) ineffective"
        run = await escalation(h, origin)
        assert (run.state, run.reason) == (State.HELD, "escalating")
        await h.resolve(severity="critical", namespace="production")
        run = await h.end(run.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "resolved")
        assert said()[3:] == [(began + 2 * HOUR, "-oncall"), (began + 2 * HOUR, "lead")]
        assert Tell.said[-1][2] == "over: the alert has resolved after 2h10m"
        assert (await h.store.run(origin)).state is State.FAILED


async def test_recovery_ends_the_calling_and_calls_off_what_was_open() -> None:
    """Whoever was not called yet is not called, and only what was said is taken back."""
    async with called() as h:
        origin, began = await _failed(h)
        await asyncio.sleep(5 * MINUTE)
        await h.resolve(severity="critical", namespace="production")
        run = await h.end((await escalation(h, origin)).id)
        assert said() == [(began, "oncall"), (began + 5 * MINUTE, "-oncall")]
        assert [send["state"] for send in run.progress["sends"][:3]] == ["sent", "stopped", "stopped"]
        await asyncio.sleep(2 * HOUR)
        assert len(said()) == 2


async def test_a_person_who_takes_over_stops_the_calling() -> None:
    """Acknowledged by a person, nobody else is called; the page is called off when the alert resolves; both audited."""
    async with called() as h:
        origin, _ = await _failed(h)
        await asyncio.sleep(MINUTE)
        run = await escalation(h, origin)
        await h.store.acknowledge(run.id, "user:ann", "on it")
        h.wake()
        await asyncio.sleep(2 * HOUR)
        assert [who for _, who in said()] == ["oncall"]
        with pytest.raises(Conflict, match="user:ann has taken over"):
            await h.store.acknowledge(run.id, "user:bob", "me too")
        with pytest.raises(Conflict, match="calls nobody"):
            await h.store.acknowledge(origin, "user:bob", "me too")
        await h.resolve(severity="critical", namespace="production")
        run = await h.end(run.id)
        assert [who for _, who in said()] == ["oncall", "-oncall"]
        assert "escalation.acknowledged" in await h.events(run.id)
        assert run.progress["acknowledged"]["actor"] == "user:ann"


async def test_a_condition_is_asked_when_the_time_has_come() -> None:
    """Another severity skips the lead; a condition that cannot be told calls, for a call for help is no action."""
    async with called() as h:
        origin, began = await _failed(h, severity="warning")
        await asyncio.sleep(2 * HOUR)
        assert said() == [(began, "oncall"), (began + HOUR, "cto")]
        run = await escalation(h, origin)
        assert run.progress["sends"][1]["message"] == 'not so: severity == "SEV1"'
    unclear = {"if": 'labels.nowhere == "x"', "uses": "place.tell", "target": "phone", "with": {"thing": "lead"}}
    async with called(unclear) as h:
        await _failed(h)
        await asyncio.sleep(MINUTE)
        assert [who for _, who in said()] == ["lead"]


async def test_an_alert_without_that_label_is_still_told() -> None:
    """A label that is missing, and one that looks like a placeholder, are texts."""
    call = {
        "uses": "place.tell",
        "target": "phone",
        "with": {"thing": "lead", "text": "${{ labels.a }} ${{ labels.b }}"},
    }
    async with called(call) as h:
        await _failed(h, a="${{ labels.b }} $${{ x")
        await asyncio.sleep(MINUTE)
        assert Tell.said[0][2] == "${{ labels.b }} $${{ x (none)"


async def test_what_cannot_be_sent_is_sent_again_for_hours() -> None:
    """Back-off from 10 s to 10 min; others do not wait for it; the remedy's run is not touched; all of it shows."""
    calls = [
        {"name": "on call", "uses": "place.tell", "target": "phone", "with": {"thing": "oncall"}, "give_up": "3h"},
        {"name": "lead", "after": "5m", "uses": "place.tell", "target": "mail", "with": {"thing": "lead"}},
    ]
    async with called(*calls) as h:
        mail = place(name="mail")
        h.world = dataclasses.replace(h.world, targets={**h.world.targets, "mail": mail})
        phone = h.places["phone"].outside
        phone.faults.extend(["refused", "denied", "lost request", "bug"] + ["refused"] * 6 + ["lost reply"])
        origin, began = await _failed(h)
        before = await h.store.run(origin)
        await asyncio.sleep(20 * MINUTE)
        assert said() == [(began + 5 * MINUTE, "lead")]
        await asyncio.sleep(2 * HOUR)
        assert [who for _, who in said()] == ["lead", "oncall", "oncall"]
        assert await h.store.run(origin) == before
        run = await escalation(h, origin)
        assert (run.state, run.reason) == (State.SUCCEEDED, "all_called")
        assert run.progress["sends"][0]["tries"] == 12
        told = await h.details(run.id, "notification.failed")
        assert len(told) == 11
        assert {detail["call"] for detail in told} == {"on call"}
        figures = h.metrics.render().decode()
        assert 'remediator_notifications_total{action="place.tell",outcome="failed"} 11.0' in figures
        assert 'remediator_notifications_total{action="place.tell",outcome="sent"} 2.0' in figures


async def test_who_cannot_be_told_in_time_is_named_at_the_end() -> None:
    """After give_up it is not tried any more, and the escalation itself has failed, visibly."""
    call = {"uses": "place.tell", "target": "phone", "with": {"thing": "oncall"}, "give_up": "1h"}
    async with called(call) as h:
        h.places["phone"].outside.faults.extend(["refused"] * 1000)
        origin, began = await _failed(h)
        run = await h.end((await escalation(h, origin)).id)
        assert (run.state, run.reason) == (State.FAILED, "not_delivered")
        assert "connection refused" in run.message
        assert HOUR <= run.updated_at - EPOCH - began <= HOUR + 11 * MINUTE
        assert (await h.store.run(origin)).reason == "ineffective"


async def test_an_action_that_must_not_be_repeated_is_not() -> None:
    """A policy may use any action; one of class once whose outcome is unknown is told as unknown, and others go on."""
    calls = [
        {"uses": "place.kick", "target": "phone", "with": {"thing": "bell"}},
        {"after": "1m", "uses": "place.tell", "target": "phone", "with": {"thing": "lead"}},
    ]
    async with called(*calls) as h:
        h.places["phone"].outside.faults.append("lost request")
        origin, _ = await _failed(h)
        run = await h.end((await escalation(h, origin)).id)
        assert [send["state"] for send in run.progress["sends"][:2]] == ["unknown", "sent"]
        assert h.places["phone"].outside.requests == 2
        assert (run.state, run.reason) == (State.FAILED, "not_delivered")


async def test_the_kill_switch_does_not_silence_a_call_for_help() -> None:
    """A pause of everything holds what acts on systems, and nobody is left in the dark by it."""
    async with called() as h:
        _, began = await _failed(h)
        await h.store.pause(Pause("global", "stop", "user:ann", EPOCH, None))
        await asyncio.sleep(2 * HOUR)
        assert [who for _, who in said()] == ["oncall", "lead", "cto"]
        assert said()[0][0] == began


async def test_several_calls_at_once_wait_for_no_target() -> None:
    """Twenty problems at one time: each calls at once, though all use one target that allows one run."""
    async with called() as h:
        ids = [await h.fire(severity="critical", namespace=f"n{number}") for number in range(20)]
        for run_id in ids:
            await h.end(run_id)
        await asyncio.sleep(MINUTE)
        assert len([who for _, who in said() if who == "oncall"]) == 20


@pytest.mark.parametrize(
    ("if_", "expected"),
    [('    if: severity == "never"\n', []), ('    if: severity == "SEV1"\n', ["oncall"])],
)
async def test_a_rule_that_does_not_apply_calls_nobody(if_: str, expected: list[str]) -> None:
    """A no by the rule's own condition is what its author meant; a failure is not."""
    async with called(if_=if_) as h:
        await h.end(await h.fire(severity="critical"))
        await asyncio.sleep(5 * MINUTE)
        assert [who for _, who in said()] == expected


@pytest.mark.parametrize("where", ["rule", "remedy"])
async def test_what_cannot_be_seen_calls_people(where: str) -> None:
    """The probe sees a no: nobody is needed. The probe cannot see: nothing is done, and people are told."""
    probes = "    probes: [{id: seen, uses: place.look, target: here, with: {thing: lamp}}]\n"
    condition = "if: probes.seen.n == 1"
    rules = RULE.replace("MODE", "auto")
    if where == "rule":
        rules = rules.replace("    IF\n", f"{probes}    {condition}\n")
    else:
        head, _, rest = rules.replace("    IF\n", probes).partition("    steps:")
        rest = rest.replace("    verify", "        verify")
        rules = f"{head}    remedies:\n      - {condition}\n        steps:{rest}"
    for away, reason, expected in ((False, "if", []), (True, "no_evidence", ["oncall"])):
        async with called(rules=rules) as h:
            h.places["here"].outside.away = away
            run = await h.end(await h.fire(severity="critical"))
            assert (run.state, run.reason) == (State.DENIED, reason), run.message
            await asyncio.sleep(5 * MINUTE)
            assert [who for _, who in said()] == expected


async def test_a_temporary_change_that_cannot_go_back_calls_people() -> None:
    """The alert is over and the change would stay for ever: people are told; the end of the alert is no answer."""
    turn = "steps: [{uses: place.turn, target: here, with: {thing: workers, to: 5}, lease: {settle: 5m, at_most: 1h}}]"
    rules = RULE.replace("steps: [{uses: place.put, target: here, with: {thing: workers, to: 5}}]", turn)
    async with called(rules=rules) as h:
        run_id = await h.fire(severity="critical")
        await asyncio.sleep(MINUTE)
        await h.resolve(severity="critical")
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert said() == []
        h.places["here"].outside.faults.append("denied")
        await asyncio.sleep(6 * MINUTE)
        (back,) = await h.store.runs(kinds=(Kind.REVERT,))
        assert (back.state, back.reason) == (State.FAILED, "status_403")
        await asyncio.sleep(20 * MINUTE)
        assert [who for _, who in said()] == ["oncall", "lead"]
        assert "[SEV1]" in Tell.said[1][2]
        page = await escalation(h, back.id)
        assert (page.state, page.reason) == (State.HELD, "escalating")


async def test_the_end_of_the_alert_is_no_way_back() -> None:
    """At the deadline, while the alert fires, it cannot go back: people are called also after the alert has ended."""
    turn = "steps: [{uses: place.turn, target: here, with: {thing: workers, to: 5}, lease: {settle: 5m, at_most: 1h}}]"
    rules = RULE.replace("steps: [{uses: place.put, target: here, with: {thing: workers, to: 5}}]", turn)
    rules = rules.replace("    verify: {until: alert.resolved, within: 10m}\n", "")
    async with called(rules=rules) as h:
        assert (await h.end(await h.fire(severity="critical"))).state is State.SUCCEEDED
        h.places["here"].outside.faults.append("denied")
        await asyncio.sleep(HOUR + MINUTE)
        assert [who for _, who in said()] == ["oncall"]
        await h.resolve(severity="critical")
        await asyncio.sleep(20 * MINUTE)
        assert [who for _, who in said()] == ["oncall", "lead"]


async def test_observe_mode_and_cancelled_runs_call_nobody() -> None:
    """Who only looks needs nobody; who was cancelled by a person has one."""
    async with called(mode="observe") as h:
        await h.end(await h.fire(severity="critical"))
        await asyncio.sleep(MINUTE)
    async with called(mode="approve") as h:
        run = await h.state(await h.fire(severity="critical"), State.HELD)
        await h.store.cancel(run.id, "user:ann", "not now")
        await asyncio.sleep(2 * HOUR)
    assert said() == []


async def test_a_question_is_told_and_closed_with_its_answer() -> None:
    """approvals.notify tells the change, its digest and when the question closes; the answer ends it."""
    call = {
        "uses": "place.tell",
        "target": "phone",
        "with": {"thing": "approvers", "text": "${{ approval.summary }}|${{ approval.digest }}|${{ handover.url }}"},
        "on_resolve": {"text": "${{ reason }}"},
    }
    remind = {"after": "5m", "uses": "place.tell", "target": "phone", "with": {"thing": "lead"}}
    async with called(call, remind, mode="approve", notify="oncall") as h:
        run_id = await h.fire(severity="critical")
        await h.state(run_id, State.HELD)
        await asyncio.sleep(MINUTE)
        approval = await h.store.approval(run_id)
        assert approval is not None
        text = Tell.said[0][2]
        assert "place.put on here: workers 0 → 5" in text
        assert f"|{approval.digest}|https://remediator.example.com/runs/{run_id}" in text
        await h.vote(run_id)
        run = await h.end((await escalation(h, run_id)).id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "answered")
        assert [(who, text) for _, who, text in Tell.said[1:]] == [("approvers", "the question is granted")]


async def test_a_question_that_nobody_answers_reminds_and_then_needs_people() -> None:
    """The reminder comes while the question is open; when it expires, the rule's own escalation begins."""
    call = {"after": "5m", "uses": "place.tell", "target": "phone", "with": {"thing": "lead"}}
    async with called(call, mode="approve", notify="oncall") as h:
        run_id = await h.fire(severity="critical")
        run = await h.state(run_id, State.EXPIRED)
        await asyncio.sleep(HOUR)
        assert [who for _, who in said()] == ["lead", "lead"]
        abouts = {each.about for each in await h.store.runs(kinds=(Kind.ESCALATION,), about=run_id)}
        approval = await h.store.approval(run_id)
        assert approval is not None
        assert abouts == {run_id, f"{run_id}/{approval.id}"}
        assert round(run.updated_at - EPOCH) == 900


async def test_a_problem_that_comes_back_is_still_a_problem() -> None:
    """The alert ended only because it began again: calling goes on until the new life of the problem has ended."""
    async with called() as h:
        origin, began = await _failed(h)
        await h.post(h.alert(severity="critical", namespace="production", since=h.clock.now() + 120))
        await asyncio.sleep(20 * MINUTE)
        assert (began + 15 * MINUTE, "lead") in said()
        await h.resolve(severity="critical", namespace="production", since=h.clock.now() - 1080)
        run = await h.end((await escalation(h, origin)).id)
        assert run.reason == "resolved"


async def test_a_crash_at_any_moment_loses_no_call_and_the_policy_stays() -> None:
    """Another process goes on with the policy as it was, although the settings have changed meanwhile."""
    async with called() as h:
        origin, began = await _failed(h)
        await asyncio.sleep(MINUTE)
        await h.worker.drain(0.0)
        h.world = dataclasses.replace(h.world, escalations={})
        h.worker = h.new_worker("second")
        h.worker.start()
        await asyncio.sleep(2 * HOUR)
        assert said() == [(began, "oncall"), (began + 15 * MINUTE, "lead"), (began + HOUR, "cto")]
        assert (await escalation(h, origin)).progress["policy"] == "oncall"


async def test_people_are_called_once_for_a_run() -> None:
    """One escalation for a run, in the same commit as its end: the audit shows both in order."""
    async with called() as h:
        origin, _ = await _failed(h)
        await asyncio.sleep(MINUTE)
        run = await escalation(h, origin)
        assert (await h.events(run.id))[:2] == ["escalation.begun", "run.resumed"]
        assert run.about == origin


async def test_a_crash_while_a_message_is_sent_sends_it_again_under_its_key() -> None:
    """Nobody knows whether it arrived: the next owner sends it again, with the same key and the same words."""
    async with called() as h:
        phone = h.places["phone"].outside
        phone.faults.append("no answer")
        origin, _ = await _failed(h)
        await asyncio.sleep(1)
        await h.worker.drain(0.0)
        (effect,) = await h.store.effects((await escalation(h, origin)).id)
        assert effect.state == "intent"
        h.worker = h.new_worker("second")
        h.worker.start()
        await asyncio.sleep(2 * MINUTE)
        assert [who for _, who in said()] == ["oncall", "oncall"]
        assert list(phone.keys.values()) == [1]
        assert [each.state for each in await h.store.effects(effect.run_id)] == ["unknown", "done"]
        assert (await escalation(h, origin)).progress["sends"][0]["state"] == "sent"


# held until people have looked ----------------------------------------------------------------------------------------


async def test_a_storm_pages_once() -> None:
    """A thousand alerts in ten seconds hold a thousand runs; people are called about the storm, and once."""
    guards: list[dict[str, Any]] = [{"storm": {}}]
    async with called(more_guards=guards, backlog=5000, drop=(), concurrency=100) as h:
        for n in range(0, 1000, 100):
            await h.post(*(h.alert(severity="critical", n=str(m)) for m in range(n, n + 100)))
            await asyncio.sleep(1)
        await asyncio.sleep(30)
        assert len([effect for effect in h.effects if effect.target == "here"]) <= 3
        assert [who for _, who in said()] == ["oncall"]
        (run,) = await h.store.runs(kinds=(Kind.ESCALATION,), about="storm:")
        assert run.progress["origin"]["reason"] == "storm"


async def test_what_never_helps_is_not_done_for_ever_and_one_page_tells_so() -> None:
    """kubernaut #214, #1090: 39 identical remediations in a row, each "completed". Here the third is the last."""
    guards: list[dict[str, Any]] = [{"breaker": {}}]
    async with called({"uses": "place.tell", "target": "phone", "with": {"thing": "oncall"}}, more_guards=guards) as h:
        for _ in range(6):
            origin = await h.fire(severity="critical")
            await h.state(origin, State.FAILED, State.HELD)
            while (await h.store.run(origin)).reason not in ("ineffective", "breaker"):
                await asyncio.sleep(5)
            h.places["here"].outside.values["workers"] = 0
            await h.resolve(severity="critical")
            await asyncio.sleep(120)
        assert len([effect for effect in h.effects if effect.target == "here"]) == 3
        (held,) = await h.store.runs(kinds=(Kind.ESCALATION,), about="breaker:")
        assert held.progress["origin"]["reason"] == "breaker"
        assert len(said()) == 4, "each failure, and the breaker once"


async def test_what_is_told_at_the_end_does_not_need_the_run_any_more() -> None:
    """A problem may outlast what retention keeps: the message that it is over is sent all the same."""
    async with called() as h:
        origin, _ = await _failed(h)
        await asyncio.sleep(2 * HOUR)
        writer = h.store._writer
        assert writer is not None
        run = await escalation(h, origin)
        gone = "UPDATE run SET progress = json_set(progress, '$.origin.run', 'gone') WHERE id = ?"
        writer.connection.execute(gone, (run.id,))
        await h.resolve(severity="critical", namespace="production")
        run = await h.end(run.id)
        assert (run.state, run.reason) == (State.SUCCEEDED, "resolved")
        assert [who for _, who in said()][-2:] == ["-oncall", "lead"]
