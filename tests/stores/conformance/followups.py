"""What every store must do with runs that follow from a run: made once, with their cause, and on terms of their own."""

from __future__ import annotations

import dataclasses

import pytest

from remediator.errors import Conflict, NotFound
from remediator.guard import Limit
from remediator.run import Kind, Lock, Run, State
from remediator.store import Licence, Pause, Refusal
from tests.stores.conformance.kit import T0, Bench, entry, ref, sighting

TARGET = Lock("prod", "deployment/production/minting-worker", 1)


def followup(bench: Bench, of: Run, kind: Kind = Kind.REVERT, about: str = "", wake_at: float = T0 + 3600) -> Run:
    """A run that follows from ``of``, as the engine makes it: held until its time has come."""
    return Run(
        id=bench.ids(),
        rule=of.rule,
        rule_digest=of.rule_digest,
        incident_id=of.incident_id,
        state=State.HELD,
        reason="in_force",
        message="goes back by itself",
        mode="auto",
        epoch=0,
        version=1,
        owner="",
        lease_until=0.0,
        wake_at=wake_at,
        created_at=bench.clock.at,
        updated_at=bench.clock.at,
        due_at=wake_at,
        locks=(TARGET,),
        progress={"changes": [1]},
        kind=kind,
        about=about or f"{of.id}/0",
    )


class Followups:
    """What ``save``, ``conclude`` and ``ask`` add, and the verbs ``hasten``, ``latest`` and ``runs``."""

    async def test_it_is_made_with_its_cause(self, bench: Bench) -> None:
        """The outcome of a change and the promise to put it back are one commit, read back as they were written."""
        licence = await bench.licensed(await bench.running())
        back = followup(bench, licence.run)
        moved = licence.run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        await bench.store.conclude(moved, licence.effect_id, "done", {}, entry(moved), follow=[back])
        assert await bench.store.run(back.id) == back
        assert [run.id for run in await bench.store.runs(kinds=(Kind.REVERT,))] == [back.id]
        assert [run.id for run in await bench.store.runs(kinds=tuple(Kind), about=moved.id)] == [back.id]
        assert (await bench.store.counts()).changes_in_force == 1

    async def test_it_is_made_once(self, bench: Bench) -> None:
        """A second run about the same is dropped, whatever repeats the move that causes it."""
        run = (await bench.running()).run
        first, second = followup(bench, run), followup(bench, run)
        other = followup(bench, run, Kind.ESCALATION)
        held = run.move(State.HELD, "retry", "later", now=bench.clock.at, wake_at=T0)
        await bench.store.save(held, entry(held), follow=[first])
        again = (await bench.claim_one()).run
        moved = again.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        await bench.store.save(moved, entry(moved), follow=[second, other])
        found = await bench.store.runs(kinds=(Kind.REVERT, Kind.ESCALATION))
        assert {each.id for each in found} == {first.id, other.id}

    async def test_lists_and_figures_speak_of_remedies(self, bench: Bench) -> None:
        """Runs that follow are listed when asked for, and are no backlog and no newest run."""
        run = (await bench.running()).run
        moved = run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        await bench.store.save(moved, entry(moved), follow=[followup(bench, run)])
        assert [each.id for each in await bench.store.runs()] == [run.id]
        assert (await bench.store.run("@latest")).id == run.id
        assert await bench.store.backlog() == 0
        assert dict((await bench.store.counts()).states) == {"succeeded": 1}

    async def test_the_end_of_the_incident_wakes_it(self, bench: Bench) -> None:
        """A resolved alert cancels nothing that follows from a run; it makes it look again."""
        rule = ref("rule-a")
        claim = await bench.running("a", rule)
        moved = claim.run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        back = followup(bench, claim.run)
        await bench.store.save(moved, entry(moved), follow=[back])
        bench.clock.pass_(60)
        await bench.ends("a", rule)
        (woken,) = await bench.claim()
        assert (woken.run.id, woken.run.state) == (back.id, State.RUNNING)
        assert not woken.incident.open

    async def test_who_knows_of_the_end_may_wait(self, bench: Bench) -> None:
        """A run whose owner saw the end waits as long as it said; one whose owner did not is due at once."""
        rule = ref("rule-a")
        claim = await bench.running("a", rule)
        moved = claim.run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        await bench.store.save(moved, entry(moved), follow=[followup(bench, claim.run, wake_at=T0)])
        first = await bench.claim_one()
        bench.clock.pass_(10)
        await bench.ends("a", rule)
        late = first.run.move(State.HELD, "in_force", "waits", now=bench.clock.at, wake_at=T0 + 3600)
        assert (await bench.store.save(late, entry(late))).wake_at == bench.clock.at
        second = await bench.claim_one()
        known = second.run.move(
            State.HELD, "in_force", "waits", now=bench.clock.at, wake_at=T0 + 3600, progress={"ended": True}
        )
        assert (await bench.store.save(known, entry(known))).wake_at == T0 + 3600
        assert await bench.claim() == []

    async def test_cleaning_up_is_licensed_after_the_end(self, bench: Bench) -> None:
        """What puts something back is licensed though the alert is gone; what goes on acting is not."""
        rule = ref("rule-a")
        claim = await bench.running("a", rule)
        await bench.ends("a", rule)
        refusal = await bench.store.licence(bench.request(claim))
        assert isinstance(refusal, Refusal) and refusal.kind == "cancel"
        closing = dataclasses.replace(bench.request(claim), closing=True)
        assert isinstance(await bench.store.licence(closing), Licence)

    async def test_cleaning_up_counts_for_no_limit(self, bench: Bench) -> None:
        """A cooldown is about acting: what went back an hour later does not begin it anew."""
        limit = Limit(guard="cooldown", scope="rule", runs=1, window=600.0, since="end")
        claim = await bench.running("a", ref("rule-a", Lock("x", "", 1)))
        closing = dataclasses.replace(bench.request(claim), closing=True)
        licence = await bench.store.licence(closing)
        assert isinstance(licence, Licence)
        await bench.concluded(licence)
        other = await bench.running("b", ref("rule-a", Lock("y", "", 1)))
        assert isinstance(await bench.store.licence(bench.request(other, limits=[limit])), Licence)

    async def test_a_pause_holds_the_way_back_but_no_call_for_help(self, bench: Bench) -> None:
        """The kill switch stops every change, and silences nobody who must be told."""
        run = (await bench.running()).run
        moved = run.move(State.FAILED, "ineffective", "did not help", now=bench.clock.at)
        back = followup(bench, run, wake_at=T0)
        call = followup(bench, run, Kind.ESCALATION, wake_at=T0)
        call = dataclasses.replace(call, locks=())
        await bench.store.save(moved, entry(moved), follow=[back, call])
        await bench.store.pause(Pause("global", "stop", "user:ann", bench.clock.at, None))
        claims = {claim.run.id: claim for claim in await bench.claim()}
        refusal = await bench.store.licence(dataclasses.replace(bench.request(claims[back.id]), closing=True))
        assert isinstance(refusal, Refusal) and refusal.reason == "paused"
        request = bench.request(claims[call.id], target="oncall")
        assert isinstance(await bench.store.licence(dataclasses.replace(request, closing=True)), Licence)

    async def test_what_was_granted_is_carried_through(self, bench: Bench) -> None:
        """A grant must be begun in time; a run that has begun under it does not ask again half way."""
        run = await bench.asked(await bench.running(), expires_in=60)
        await bench.store.vote(run.id, "what was shown", "user:ann", True, "")
        claim = await bench.claim_one()
        approval = await bench.store.approval(run.id)
        assert approval is not None
        digest = approval.changes[0]["digest"]
        bench.clock.pass_(61)
        late = bench.request(claim, approval=digest)
        refusal = await bench.store.licence(late)
        assert isinstance(refusal, Refusal) and refusal.reason == "approval"
        assert isinstance(await bench.store.licence(dataclasses.replace(late, under_way=True)), Licence)

    async def test_a_person_puts_it_back_now(self, bench: Bench) -> None:
        """Whoever asks for it is on record, and it is due at once."""
        run = (await bench.running()).run
        moved = run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        back = followup(bench, run)
        await bench.store.save(moved, entry(moved), follow=[back])
        asked = await bench.store.hasten(back.id, "user:ann", "the sale is over")
        assert asked.progress["asked"] == {"actor": "user:ann", "at": bench.clock.at, "comment": "the sale is over"}
        assert (await bench.events(back.id))[-1] == "change.revert_requested"
        assert (await bench.claim_one()).run.id == back.id
        with pytest.raises(Conflict):
            await bench.store.hasten(back.id, "user:ann", "")
        with pytest.raises(Conflict, match="no temporary change"):
            await bench.store.hasten(run.id, "user:ann", "")
        with pytest.raises(NotFound):
            await bench.store.hasten("nobody", "user:ann", "")

    async def test_a_person_takes_over(self, bench: Bench) -> None:
        """Whoever takes over from an escalation is on record, once; it is due at once, to call nobody else."""
        run = (await bench.running()).run
        moved = run.move(State.FAILED, "ineffective", "did not help", now=bench.clock.at)
        call = followup(bench, run, Kind.ESCALATION, run.id)
        await bench.store.save(moved, entry(moved), follow=[call])
        taken = await bench.store.acknowledge(call.id, "user:ann", "on it")
        assert taken.progress["acknowledged"] == {"actor": "user:ann", "at": bench.clock.at, "comment": "on it"}
        assert (taken.state, taken.wake_at) == (State.HELD, bench.clock.at)
        assert (await bench.events(call.id))[-1] == "escalation.acknowledged"
        with pytest.raises(Conflict, match="user:ann has taken over already"):
            await bench.store.acknowledge(call.id, "user:bob", "")
        with pytest.raises(Conflict, match="calls nobody"):
            await bench.store.acknowledge(run.id, "user:bob", "")
        with pytest.raises(NotFound):
            await bench.store.acknowledge("nobody", "user:bob", "")

    async def test_nobody_takes_over_while_somebody_is_called(self, bench: Bench) -> None:
        """What is just being sent is not taken back in the middle: the person says it again."""
        run = (await bench.running()).run
        moved = run.move(State.FAILED, "ineffective", "did not help", now=bench.clock.at)
        call = followup(bench, run, Kind.ESCALATION, run.id, bench.clock.at)
        await bench.store.save(moved, entry(moved), follow=[call])
        assert (await bench.claim_one()).run.id == call.id
        with pytest.raises(Conflict, match="just now; try again"):
            await bench.store.acknowledge(call.id, "user:ann", "")

    async def test_a_person_makes_it_permanent(self, bench: Bench) -> None:
        """Cancelling the way back leaves the change for good, and no replica puts it back afterwards."""
        run = (await bench.running()).run
        moved = run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
        back = followup(bench, run)
        await bench.store.save(moved, entry(moved), follow=[back])
        cancelled = await bench.store.cancel(back.id, "user:ann", "we need five from now on")
        assert (cancelled.state, cancelled.reason) == (State.CANCELLED, "kept")
        assert cancelled.message == "made permanent by user:ann: we need five from now on"
        bench.clock.pass_(7200)
        assert await bench.claim() == []
        assert (await bench.store.counts()).changes_in_force == 0

    async def test_cancelling_half_way_cleans_up_first(self, bench: Bench) -> None:
        """A held run that must put something back is not ended under its hands: it is asked to, and due at once."""
        claim = await bench.running()
        held = claim.run.move(
            State.HELD, "waiting", "waits", now=bench.clock.at, wake_at=T0 + 900, progress={"cleanup": True}
        )
        await bench.store.save(held, entry(held))
        asked = await bench.store.cancel(held.id, "user:ann", "enough")
        assert (asked.state, asked.reason) == (State.HELD, "by_person")
        assert asked.progress["cancel"]["message"] == "cancelled by user:ann: enough"
        assert (await bench.events(held.id))[-1] == "cancel.requested"
        assert (await bench.claim_one()).run.id == held.id

    async def test_the_newest_life_of_a_problem(self, bench: Bench) -> None:
        """Whether a problem is back is told by its newest life, not by the one a run was opened for."""
        rule = ref("rule-a")
        await bench.fires("a", rule)
        key = sighting("a", start=T0).key
        first = await bench.store.latest(key)
        assert first is not None and first.open
        bench.clock.pass_(600)
        await bench.ends("a", rule)
        bench.clock.pass_(600)
        await bench.fires("a", rule)
        second = await bench.store.latest(key)
        assert second is not None and second.open and second.id != first.id
        assert await bench.store.latest("unheard of") is None
