"""Proves that a reviewer can read from the record alone why a run did what it did."""

from __future__ import annotations

import asyncio

import pytest

from remediator.guard import Verdict
from remediator.rule import Rule
from remediator.run import Kind, Run, State
from remediator.why import matched, why
from tests.engine_world import Gate, House, Outside, house, place
from tests.test_line import rules

pytestmark = pytest.mark.looptime

BODY = """
guards: [{cooldown: 10m}, {approval: {needed: 2}}]
probes:
  - {id: seen, uses: place.look, target: here, with: {thing: lamp}}
  - {id: gone, uses: place.look, target: there, with: {thing: lamp}}
if: probes.seen.n == 0
remedies:
  - name: never
    if: probes.seen.n == 3
    steps: [{uses: place.turn, target: here, with: {thing: x, to: 1}}]
  - name: workers
    steps: [{uses: place.turn, target: here, with: {thing: workers, to: 5}, lease: {settle: 1m, at_most: 1h}}]
    verify: {until: alert.resolved, within: 2m, every: 15s}
  - name: restart
    steps: [{uses: place.turn, target: here, with: {thing: epoch, to: 1}}]
    verify: {until: alert.resolved, within: 2m, every: 15s}
finally: [{uses: place.put, target: here, with: {thing: queue, to: 2}}]
"""


async def told(h: House, run: Run) -> list[tuple[str, str]]:
    """The story of a run as words and sentences."""
    rule = Rule.from_body(await h.store.rule_body(run.rule_digest))
    records = await h.store.audit(run=run.id, limit=1000)
    return [(item["what"], item["text"]) for item in why(run, await h.store.incident(run.incident_id), rule, records)]


async def test_the_whole_story() -> None:
    """Alert, matchers, conditions, evidence, guards, who said yes, each effect, the undoing, the looks, and the end."""
    async with house(rules(BODY), place(), place(Outside(away=True), name="there")) as h:
        run_id = await h.fire(severity="critical")
        for _ in range(2):
            await h.state(run_id, State.HELD)
            while (await h.store.run(run_id)).reason != "approval":
                await asyncio.sleep(1)
            await h.vote(run_id)
            await h.vote(run_id, actor="user:bob")
            await h.state(run_id, State.VERIFYING)
            await asyncio.sleep(121 if _ == 0 else 20)
        await h.resolve(severity="critical")
        await h.end(run_id)
        story = await told(h, await h.store.run(run_id))
        text = "\n".join(sentence for _, sentence in story)
        for expected in (
            '{alertname="Alarm", severity="critical"} fires since',
            'matches: alert "Alarm" is one of Alarm',
            "if `probes.seen.n == 0`: so, for the run went on",
            "remedy never, if `probes.seen.n == 3`: place.turn; nobody asks whether it helped",
            'probe seen (place.look on here) saw {"n":0}',
            "probe gone (place.look on there) saw unknown: connection refused",
            "2 yes needed: step1: workers 0 → 5; step3: in any case afterwards: place.put on here",
            "user:ann said yes (1 of 2): said the test",
            "user:bob said yes (2 of 2): said the test",
            "guard cooldown says allow",
            'licensed to act, auto: step step1 of remedy workers: place.turn on here: workers 0 → 5 (from {"n":0} to',
            "place.turn on here: done: workers is 5",
            "verifying (verifying): waits up to 2m for alert.resolved",
            "acted, but the problem is still there after 2m",
            "licensed to put in order, auto: step undo_step1: place.turn on here: workers 5 → 0",
            "another remedy is tried",
            "step step3: place.put on here: queue 0 → 2",
            "succeeded (verified): the problem is gone",
            "more times whether it helped",
        ):
            assert expected in text, expected
        assert [what for what, _ in story].count("evidence") == 2, "what is seen again is not told again"
        (back,) = await h.store.runs(kinds=(Kind.REVERT,))
        text = "\n".join(sentence for _, sentence in await told(h, back))
        assert "workers 0 → 5: goes back once resolved for 1m, or at " in text
        assert "remediator asked for it to go back now: undone, because it did not help" in text
        assert "succeeded (already_back): it is as it was before already" in text


async def test_a_no_is_told_with_who_said_it() -> None:
    """Of a run that a guard denied, the guard and its sentence are in the story; of a condition, the condition."""
    body = "guards: [{gate: shut}]\nsteps: [{uses: place.put, target: here, with: {thing: a, to: 1}}]"
    async with house(rules(body)) as h:

        async def no(context: object) -> Verdict:
            return Verdict.deny("shut", "the gate is shut")

        Gate.answers["shut"] = no
        story = await told(h, await h.end(await h.fire()))
        assert ("guard", "guard gate says deny: the gate is shut") in story
        assert story[-1] == ("run.denied", "denied (shut): the gate is shut")
    async with house(rules("if: severity == 'SEV1'\n" + body)) as h:
        story = await told(h, await h.end(await h.fire(severity="warning")))
        assert ("if", "if `severity == 'SEV1'`") in story, "nothing says that it was so"
        assert story[-1] == ("run.denied", "denied (if): not so: severity == 'SEV1'")


async def test_a_person_who_said_no_and_one_who_cancelled() -> None:
    """The words of people are in the story under their names."""
    body = "steps: [{uses: place.put, target: here, with: {thing: a, to: 1}}]"
    async with house(rules(body, mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.vote(run_id, yes=False)
        assert ("approval.rejected", "user:ann said no: said the test") in await told(h, await h.end(run_id))
        await h.resolve()
        await asyncio.sleep(600)
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await h.store.cancel(run_id, "user:bob", "not today")
        story = await told(h, await h.end(run_id))
        assert story[-1][1] == "cancelled (by_person) by user:bob: cancelled by user:bob: not today"


async def test_no_secret_of_the_record_is_told() -> None:
    """What looks like a secret in a label is masked in the story as everywhere."""
    async with house(rules("steps: [{uses: place.put, target: here, with: {thing: a, to: 1}}]")) as h:
        run = await h.end(await h.fire(note="Bearer abcdefghijklmnopqrstuvwxyz0123456789"))
        assert "abcdefghijklmnop" not in str(await told(h, run))


def test_matchers_are_told_one_by_one() -> None:
    """Each with the value that it met, also where the label is missing."""
    when = {"alert": ["A", "B"], "matchers": ['severity=~"warning|critical"', 'team="x"']}
    rule = Rule.model_validate({"name": "r", "when": when, "steps": [{"wait": "1m"}]})
    assert [*matched(rule, {"alertname": "A", "severity": "info"})] == [
        (True, 'alert "A" is one of A, B'),
        (False, 'severity=~"warning|critical" (severity is "info")'),
        (False, 'team="x" (there is no team)'),
    ]
