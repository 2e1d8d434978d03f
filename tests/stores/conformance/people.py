"""What every store must do with what people decide: bound approvals, cancelling, and the kill switch."""

from __future__ import annotations

import asyncio

import pytest

from remediator.errors import Conflict, NotFound
from remediator.run import Found, State
from remediator.store import Approval, Pause
from tests.stores.conformance.kit import CHANGE, T0, Bench, entry, outcome, ref

SHOWN = "what was shown"


class People:
    """The verbs ``ask``, ``approval``, ``vote``, ``cancel``, ``pause``, ``resume`` and ``pauses``."""

    @pytest.mark.parametrize("end", [State.FAILED, State.DENIED, State.EXPIRED])
    async def test_trying_again(self, bench: Bench, end: State) -> None:
        """What ended and changed nothing is queued as if it were new, and keeps how it ended and who asked."""
        run = (await bench.running()).run
        ended = await bench.moved(run, end, reason="no_target")
        bench.clock.pass_(60)
        again = await bench.store.retry(run.id, "user:ann", "the target is back")
        assert (again.state, again.reason, again.wake_at) == (State.QUEUED, "retried", T0 + 60)
        how = {"state": end.value, "reason": "no_target", "message": ended.message, "at": T0}
        assert again.progress == {"before": [how]}
        record = (await bench.records())[-1]
        assert (record.event, record.actor) == ("run.retry_requested", "user:ann")
        claim = await bench.claim_one()
        assert claim.run.id == run.id
        await bench.concluded(await bench.licensed(claim))
        with pytest.raises(Conflict, match="is succeeded"):
            await bench.store.retry(run.id, "user:ann", "")

    async def test_what_failed_for_certain_is_tried_again(self, bench: Bench) -> None:
        """A licence that certainly had no effect is no obstacle; its number is not used twice."""
        run = await bench.concluded(await bench.licensed(await bench.running()), State.FAILED, "failed")
        await bench.store.retry(run.id, "user:ann", "again")
        claim = await bench.claim_one()
        assert [effect.attempt for effect in claim.effects] == [1]
        await bench.licensed(claim, attempt=2)

    @pytest.mark.parametrize("state", ["done", "unknown"])
    async def test_what_has_acted_is_not_repeated(self, bench: Bench, state: str) -> None:
        """Whatever was done, or may have been, is not done again on somebody's word."""
        run = await bench.concluded(await bench.licensed(await bench.running()), State.FAILED, state)
        before = await bench.look(run.id)
        with pytest.raises(Conflict, match="has acted"):
            await bench.store.retry(run.id, "user:ann", "again")
        assert await bench.look(run.id) == before

    async def test_nothing_is_tried_again_for_an_alert_that_is_gone(self, bench: Bench) -> None:
        """Nor is what goes on still, what nobody knows, or what waits for a person."""
        run = (await bench.running()).run
        with pytest.raises(Conflict, match="is running"):
            await bench.store.retry(run.id, "user:ann", "")
        await bench.moved(run, State.FAILED)
        await bench.ends("a", ref("rule-a"))
        with pytest.raises(Conflict, match="has resolved"):
            await bench.store.retry(run.id, "user:ann", "")
        with pytest.raises(NotFound):
            await bench.store.retry("nobody", "user:ann", "")
        other = (await bench.running("b")).run
        await bench.moved(other, State.NEEDS_HUMAN)
        with pytest.raises(Conflict, match="is needs_human"):
            await bench.store.retry(other.id, "user:ann", "")

    async def test_what_was_granted_before_does_not_count(self, bench: Bench) -> None:
        """People look again: neither an open question nor an old yes survives."""
        run = await bench.asked(await bench.running(), expires_in=60)
        await bench.store.vote(run.id, SHOWN, "user:ann", True, "")
        await bench.moved((await bench.claim_one()).run, State.FAILED)
        await bench.store.retry(run.id, "user:ann", "again")
        approval = await bench.store.approval(run.id)
        assert approval is not None and approval.state == "superseded"

    async def test_whose_yes_does_not_count(self, bench: Bench) -> None:
        """Four eyes: who answers for the rule cannot let it through, and can always stop it."""
        claim = await bench.running()
        approval = Approval(
            id=bench.ids(), run_id=claim.run.id, digest=SHOWN, changes=[], state="pending", needed=1,
            requested_at=T0, expires_at=T0 + 900, barred=("user:olga",),
        )  # fmt: skip
        held = claim.run.move(State.HELD, "approval", "waits", now=T0, wake_at=T0 + 900)
        await bench.store.ask(held, approval, entry(held, "approval.requested"))
        kept = await bench.store.approval(held.id)
        assert kept is not None and list(kept.barred) == ["user:olga"]
        before = await bench.look(held.id)
        with pytest.raises(Conflict, match="four eyes"):
            await bench.store.vote(held.id, SHOWN, "user:olga", True, "")
        assert await bench.look(held.id) == before
        assert (await bench.store.vote(held.id, SHOWN, "user:olga", False, "")).state is State.DENIED

    async def test_a_question_holds_its_run(self, bench: Bench) -> None:
        """Asking people and holding the run are one commit, and the question shows what will be done."""
        run = await bench.asked(await bench.running())
        approval = await bench.store.approval(run.id)
        assert approval is not None
        assert (approval.state, approval.digest, approval.needed, list(approval.votes)) == ("pending", SHOWN, 1, [])
        assert (approval.requested_at, approval.expires_at) == (T0, T0 + 900)
        assert [dict(change) for change in approval.changes] == [
            {"step": 0, "digest": CHANGE.digest, "change": CHANGE.as_json()}
        ]
        assert (await bench.store.run(run.id)).state is State.HELD
        assert (await bench.events(run.id))[-1] == "approval.requested"

    async def test_a_yes_wakes_the_run(self, bench: Bench) -> None:
        """The needed yes makes the run due now, with the record of who said it."""
        run = await bench.asked(await bench.running())
        bench.clock.pass_(60)
        voted = await bench.store.vote(run.id, SHOWN, "user:ann", True, "looks right")
        assert (voted.state, voted.reason, voted.wake_at) == (State.HELD, "approved", T0 + 60)
        approval = await bench.store.approval(run.id)
        assert approval is not None and approval.state == "granted"
        assert [dict(vote) for vote in approval.votes] == [
            {"actor": "user:ann", "yes": True, "comment": "looks right", "at": T0 + 60}
        ]
        record = (await bench.records())[-1]
        assert (record.event, record.actor) == ("approval.granted", "user:ann")
        assert (await bench.claim_one()).run.id == run.id

    async def test_a_no_ends_the_run(self, bench: Bench) -> None:
        """One no is enough, also after a yes of somebody else."""
        run = await bench.asked(await bench.running(), needed=2)
        await bench.store.vote(run.id, SHOWN, "user:ann", True, "")
        denied = await bench.store.vote(run.id, SHOWN, "user:bob", False, "not on a Friday")
        assert (denied.state, denied.reason) == (State.DENIED, "rejected")
        assert "bob" in denied.message and "Friday" in denied.message
        approval = await bench.store.approval(run.id)
        assert approval is not None and approval.state == "rejected"
        assert (await bench.events(run.id))[-1] == "approval.rejected"

    async def test_as_many_people_as_are_needed(self, bench: Bench) -> None:
        """With three needed, two are not enough, and the run stays held without being woken."""
        run = await bench.asked(await bench.running(), needed=3)
        for name in ("ann", "bob"):
            assert (await bench.store.vote(run.id, SHOWN, f"user:{name}", True, "")).reason == "approval"
        assert await bench.claim() == []
        assert (await bench.store.vote(run.id, SHOWN, "user:cat", True, "")).reason == "approved"

    async def test_nobody_counts_twice(self, bench: Bench) -> None:
        """The same person is one person however often they press."""
        run = await bench.asked(await bench.running(), needed=2)
        await bench.store.vote(run.id, SHOWN, "user:ann", True, "")
        before = await bench.look(run.id)
        for yes in (True, False):
            with pytest.raises(Conflict):
                await bench.store.vote(run.id, SHOWN, "user:ann", yes, "")
        assert await bench.look(run.id) == before

    @pytest.mark.parametrize("yes", [True, False])
    async def test_an_answer_to_another_question_does_not_count(self, bench: Bench, yes: bool) -> None:
        """Whoever looked at other changes than are asked about now is told so, and nothing happens."""
        run = await bench.asked(await bench.running())
        before = await bench.look(run.id)
        with pytest.raises(Conflict):
            await bench.store.vote(run.id, "what was shown before", "user:ann", yes, "")
        assert await bench.look(run.id) == before

    async def test_a_question_expires_at_its_second(self, bench: Bench) -> None:
        """By the store's clock an answer counts up to the second before and no longer."""
        run = await bench.asked(await bench.running(), needed=2)
        bench.clock.pass_(899)
        await bench.store.vote(run.id, SHOWN, "user:ann", True, "")
        bench.clock.pass_(1)
        before = await bench.look(run.id)
        with pytest.raises(Conflict):
            await bench.store.vote(run.id, SHOWN, "user:bob", True, "")
        assert await bench.look(run.id) == before

    async def test_a_newer_question_supersedes(self, bench: Bench) -> None:
        """When the target has changed people are asked anew, and an answer to the old question is refused."""
        run = await bench.asked(await bench.running())
        bench.clock.pass_(900)
        again = await bench.asked(await bench.claim_one(), digest="the new change")
        assert again.id == run.id
        with pytest.raises(Conflict):
            await bench.store.vote(run.id, SHOWN, "user:ann", True, "")
        assert (await bench.store.counts()).approvals_pending == 1
        assert (await bench.store.vote(run.id, "the new change", "user:ann", True, "")).reason == "approved"

    async def test_where_nothing_is_asked_nothing_is_answered(self, bench: Bench) -> None:
        """Votes on unknown runs, on runs without a question and on settled questions are refused."""
        with pytest.raises(NotFound):
            await bench.store.vote("nobody", SHOWN, "user:ann", True, "")
        claim = await bench.running()
        with pytest.raises(Conflict):
            await bench.store.vote(claim.run.id, SHOWN, "user:ann", True, "")
        await bench.asked(claim)
        await bench.store.vote(claim.run.id, SHOWN, "user:ann", True, "")
        with pytest.raises(Conflict):
            await bench.store.vote(claim.run.id, SHOWN, "user:bob", False, "too late")

    @pytest.mark.parametrize("needed", [1, 2])
    async def test_twenty_votes_at_once_grant_once(self, bench: Bench, needed: int) -> None:
        """Twenty people, doubles and an outdated page among them, press together: the run is woken exactly once."""
        run = await bench.asked(await bench.running(), needed=needed)
        people = [f"user:{number % 15}" for number in range(20)]
        shown = [SHOWN if number % 7 else "an older page" for number in range(20)]
        answers = await asyncio.gather(
            *(
                outcome(bench.store.vote(run.id, digest, person, True, ""))
                for digest, person in zip(shown, people, strict=True)
            )
        )
        assert sum(not isinstance(answer, Exception) for answer in answers) == needed
        assert all(isinstance(answer, Conflict) for answer in answers if isinstance(answer, Exception))
        approval = await bench.store.approval(run.id)
        assert approval is not None and approval.state == "granted"
        assert len({vote["actor"] for vote in approval.votes}) == len(approval.votes) == needed
        assert (await bench.store.run(run.id)).version == run.version + 1
        assert (await bench.events(run.id)).count("approval.granted") == needed

    # cancelling ------------------------------------------------------------------------------------------------------

    async def test_a_person_cancels_what_has_not_begun(self, bench: Bench) -> None:
        """Queued and held runs, and those that wait for a person, can be cancelled, and the record says by whom."""
        queued = (await bench.fires("a")).runs[0]
        await bench.store.cancel(queued, "user:ann", "false alarm")
        held = (await bench.asked(await bench.running("b"))).id
        await bench.store.cancel(held, "user:ann", "")
        stuck = (await bench.moved((await bench.running("c")).run, State.NEEDS_HUMAN)).id
        await bench.store.cancel(stuck, "user:ann", "looked at it")
        for run_id in (queued, held, stuck):
            run = await bench.store.run(run_id)
            assert (run.state, run.reason) == (State.CANCELLED, "by_person")
            record = [record for record in await bench.records() if record.run_id == run_id][-1]
            assert (record.event, record.actor) == ("run.cancelled", "user:ann")
        assert "false alarm" in (await bench.store.run(queued)).message
        approval = await bench.store.approval(held)
        assert approval is not None and approval.state == "cancelled"
        assert await bench.claim() == []

    async def test_a_person_says_what_became_of_an_effect(self, bench: Bench) -> None:
        """A run that needs a person ends as what was found, with who found it and where; no other run can end so."""
        for rule, found, state in (("a", Found.HAPPENED, State.SUCCEEDED), ("b", Found.NOT_HAPPENED, State.FAILED)):
            stuck = (await bench.moved((await bench.running(rule)).run, State.NEEDS_HUMAN)).id
            with pytest.raises(Conflict, match="write a comment"):
                await bench.store.cancel(stuck, "user:ann", "", found)
            run = await bench.store.cancel(stuck, "user:ann", "seen in its log", found)
            assert (run.state, run.reason) == (state, f"found_{found.value}")
            assert "user:ann found that it " in run.message and run.message.endswith(": seen in its log")
            record = [record for record in await bench.records() if record.run_id == stuck][-1]
            assert (record.event, record.actor) == (f"run.{state.value}", "user:ann")
            assert (await bench.store.counts()).states == {run.state.value: 1} or rule == "b"
            with pytest.raises(Conflict, match="only asked of a run that needs_human"):
                await bench.store.cancel(stuck, "user:ann", "again", found)
        held = (await bench.asked(await bench.running("c"))).id
        before = await bench.look(held)
        with pytest.raises(Conflict, match="is held"):
            await bench.store.cancel(held, "user:ann", "it did", Found.HAPPENED)
        assert await bench.look(held) == before

    async def test_what_has_begun_cannot_be_cancelled(self, bench: Bench) -> None:
        """Running, verifying and ended runs say what they are instead, and so does one with an open effect."""
        running = await bench.running("a")
        verifying = await bench.moved((await bench.running("b")).run, State.VERIFYING)
        ended = await bench.moved((await bench.running("c")).run, State.SUCCEEDED)
        licence = await bench.licensed(await bench.running("d"))
        unsure = await bench.moved(licence.run, State.HELD, wake_at=T0 + 60)
        for run_id in (running.run.id, verifying.id, ended.id, unsure.id):
            before = await bench.look(run_id)
            with pytest.raises(Conflict):
                await bench.store.cancel(run_id, "user:ann", "")
            assert await bench.look(run_id) == before
        with pytest.raises(NotFound):
            await bench.store.cancel("nobody", "user:ann", "")

    # the kill switch -------------------------------------------------------------------------------------------------

    async def test_pauses_are_listed_replaced_and_released(self, bench: Bench) -> None:
        """Every pause in force is shown with who made it and why, dated by the store; one that is over is not."""
        assert list(await bench.store.pauses()) == []
        await bench.store.pause(Pause("rule:rule-a", "noisy", "user:ann", 0.0, 60.0))
        await bench.store.pause(Pause("global", "incident 7", "user:bob", 0.0, None))
        bench.clock.pass_(30)
        await bench.store.pause(Pause("global", "incident 8", "user:cat", 0.0, None))
        assert sorted(await bench.store.pauses()) == [
            Pause("global", "incident 8", "user:cat", T0 + 30, None),
            Pause("rule:rule-a", "noisy", "user:ann", T0, T0 + 60),
        ]
        bench.clock.pass_(30)
        assert [pause.scope for pause in await bench.store.pauses()] == ["global"]
        await bench.store.resume("global", "user:ann", "over")
        assert list(await bench.store.pauses()) == []
        with pytest.raises(NotFound):
            await bench.store.resume("global", "user:ann", "again")
        assert await bench.events() == ["pause.engaged"] * 3 + ["pause.released"]

    async def test_resuming_wakes_what_was_paused_and_nothing_else(self, bench: Bench) -> None:
        """Runs that a pause held look again at once; runs that wait for something else go on waiting."""
        await bench.store.pause(Pause("global", "", "user:ann", T0, None))
        paused = await bench.moved((await bench.running("a")).run, State.HELD, wake_at=T0 + 9_999, reason="paused")
        await bench.moved((await bench.running("b")).run, State.HELD, wake_at=T0 + 9_999, reason="cooldown")
        bench.clock.pass_(10)
        await bench.store.resume("global", "user:ann", "")
        assert (await bench.claim_one()).run.id == paused.id

    async def test_a_pause_that_is_replaced_wakes_what_it_held(self, bench: Bench) -> None:
        """A run held without end learns that the pause now ends, or it would sleep past that end for ever."""
        await bench.store.pause(Pause("global", "", "user:ann", T0, None))
        run = await bench.moved((await bench.running("a")).run, State.HELD, wake_at=T0 + 1e9, reason="paused")
        bench.clock.pass_(10)
        await bench.store.pause(Pause("global", "", "user:ann", T0, T0 + 60))
        assert (await bench.claim_one()).run.id == run.id

    async def test_no_licence_after_the_pause_is_committed(self, bench: Bench) -> None:
        """Of fifty licences that race with the kill switch, none is recorded after the switch."""
        claims = [await bench.running(f"q{number}") for number in range(50)]

        async def act(number: int) -> object:
            if number == 25:
                await bench.store.pause(Pause("global", "stop", "user:ann", T0, None))
                return None
            return await bench.store.licence(bench.request(claims[number]))

        await asyncio.gather(*(act(number) for number in range(50)))
        events = await bench.events()
        assert "effect.intent" not in events[events.index("pause.engaged") :]

    async def test_records_without_a_run_are_kept(self, bench: Bench) -> None:
        """Log-ins, refusals and reloads are in the same chain as the runs."""
        claim = await bench.running()
        await bench.store.append(entry(claim.run, "note"), entry(claim.run, "note"))
        assert (await bench.events())[-2:] == ["note", "note"]

    async def test_a_resume_that_came_while_the_run_was_being_held_is_noticed(self, bench: Bench) -> None:
        """Refused by a pause, and held when it is over already: nobody would wake that run again, so it is due."""
        claim = await bench.running()
        await bench.store.pause(Pause("global", "stop", "user:ann", T0, None))
        await bench.store.resume("global", "user:ann", "")
        held = await bench.moved(claim.run, State.HELD, wake_at=T0 + 1e9, reason="paused")
        assert held.wake_at <= bench.clock.at
        assert (await bench.claim_one()).run.id == claim.run.id

    async def test_a_run_that_is_held_by_a_pause_waits_for_its_end(self, bench: Bench) -> None:
        """While the pause is in force the run is not looked at again."""
        claim = await bench.running()
        await bench.store.pause(Pause("global", "stop", "user:ann", T0, None))
        held = await bench.moved(claim.run, State.HELD, wake_at=T0 + 1e9, reason="paused")
        assert held.wake_at == T0 + 1e9
        assert await bench.claim() == []
