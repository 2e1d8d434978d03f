"""Approvals in the engine: who must say yes, to exactly what, and that many who press at once do it once."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest

from remediator.errors import Conflict
from remediator.run import State
from remediator.why import why
from tests.engine_world import house
from tests.test_line import rules, values

pytestmark = pytest.mark.looptime

PUT = "steps: [{uses: place.put, target: here, with: {thing: a, to: 1}}]"


async def test_twenty_votes_at_once_act_once() -> None:
    """Twenty people press at the same moment: as many as are needed count, and one effect takes place."""
    async with house(rules(f"guards: [{{approval: {{needed: 3}}}}]\n{PUT}", mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        votes = [h.vote(run_id, actor=f"user:u{number}") for number in range(20)]
        done = await asyncio.gather(*votes, return_exceptions=True)
        assert sum(isinstance(each, Conflict) for each in done) == 17
        assert all(isinstance(each, Conflict) for each in done if isinstance(each, BaseException))
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert len(h.effects) == 1
        approval = await h.store.approval(run_id)
        assert approval is not None and len(approval.votes) == 3


async def test_a_yes_and_a_no_at_once_are_one_answer() -> None:
    """Whoever comes first decides: the run acts once or not at all, and never both."""
    for first in (True, False):
        async with house(rules(PUT, mode="approve")) as h:
            run_id = await h.fire()
            await h.state(run_id, State.HELD)
            answers = cycle((first, not first))
            votes = [h.vote(run_id, next(answers), actor=f"user:u{number}") for number in range(20)]
            await asyncio.gather(*votes, return_exceptions=True)
            assert (await h.end(run_id)).state is (State.SUCCEEDED if first else State.DENIED)
            assert len(h.effects) == (1 if first else 0)


async def test_four_eyes() -> None:
    """Two different people, of whom none answers for the rule."""
    body = f"owner: olga\nguards: [{{approval: {{four_eyes: true}}}}]\n{PUT}"
    async with house(rules(body)) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        with pytest.raises(Conflict, match="four eyes"):
            await h.vote(run_id, actor="user:olga")
        await h.vote(run_id, actor="user:ann")
        with pytest.raises(Conflict, match="already answered"):
            await h.vote(run_id, actor="user:ann")
        await asyncio.sleep(5)
        assert h.effects == []
        await h.vote(run_id, actor="user:bob")
        assert (await h.end(run_id)).state is State.SUCCEEDED
        (asked,) = await h.details(run_id, "approval.requested")
        assert (asked["needed"], asked["barred"]) == (2, ["user:olga"])


async def test_four_eyes_of_the_settings_hold_for_every_rule() -> None:
    """What the settings ask of every rule is not undone by a rule that asks less, nor the other way round."""
    body = f"owner: olga\nguards: [{{approval: {{needed: 3}}}}]\n{PUT}"
    async with house(rules(body), more_guards=[{"approval": {"four_eyes": True}}]) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        approval = await h.store.approval(run_id)
        assert approval is not None
        assert (approval.needed, list(approval.barred)) == (3, ["user:olga"])


async def test_what_was_granted_is_diffed_again() -> None:
    """Between the yes and the act the target moves on: the yes does not count, and people see the new change."""
    async with house(rules(f"guards: [{{gate: slow}}]\n{PUT}", mode="approve")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        values(h)["a"] = 7
        await h.vote(run_id)
        await asyncio.sleep(1)
        run = await h.store.run(run_id)
        assert (run.state, run.reason) == (State.HELD, "approval")
        asked = await h.details(run_id, "approval.requested")
        assert [detail["changes"][0]["change"]["before"] for detail in asked] == [{"n": 0}, {"n": 7}]
        assert h.effects == []


async def test_a_question_that_nobody_answers_expires() -> None:
    """After its time the run has expired, and an answer comes too late."""
    async with house(rules(f"guards: [{{approval: {{expires: 5m}}}}]\n{PUT}")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.HELD)
        await asyncio.sleep(301)
        assert (await h.end(run_id)).state is State.EXPIRED
        with pytest.raises(Conflict):
            await h.vote(run_id)


async def test_a_run_that_expired_is_tried_again() -> None:
    """Nobody answered; a person has it tried again: people are asked anew, and it acts like any other run."""
    async with house(rules(f"guards: [{{approval: {{expires: 5m}}}}]\n{PUT}")) as h:
        run_id = await h.fire()
        await h.state(run_id, State.EXPIRED)
        await h.store.retry(run_id, "user:ann", "we are here now")
        h.wake()
        await h.state(run_id, State.HELD)
        await h.vote(run_id)
        run = await h.end(run_id)
        assert run.state is State.SUCCEEDED and len(h.effects) == 1
        assert [how["state"] for how in run.progress["before"]] == ["expired"]
        records = await h.store.audit(run=run_id, limit=1000)
        story = [item["text"] for item in why(run, await h.store.incident(run.incident_id), None, records)]
        told = "user:ann asked to try again: we are here now; it had been expired (approval) and changed nothing"
        assert told in story


async def test_a_run_that_failed_before_it_changed_anything_is_tried_again() -> None:
    """The target refused for certain; once it does not, the same run acts, under a licence of its own."""
    async with house(rules(PUT)) as h:
        h.places["here"].outside.faults.append("denied")
        run_id = await h.fire()
        await h.state(run_id, State.FAILED)
        await h.store.retry(run_id, "user:ann", "permission was given")
        h.wake()
        assert (await h.end(run_id)).state is State.SUCCEEDED
        assert [effect.state for effect in await h.store.effects(run_id)] == ["failed", "done"]
        assert "run.retry_requested" in await h.events(run_id)
