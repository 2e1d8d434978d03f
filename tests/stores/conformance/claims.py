"""What every store must do when runs are claimed, kept, lost and moved: order, locks, leases and fences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from remediator.audit import Entry
from remediator.errors import Lost, NotFound, StateError
from remediator.run import MOVES, Lock, Run, State
from remediator.store import Approval, Claim
from tests.stores.conformance.kit import T0, Bench, entry, outcome, ref

PROD, WEB, DB = Lock("prod", "", 1), Lock("prod", "web", 1), Lock("prod", "db", 1)

STALE_WRITES: dict[str, Callable[[Bench, Claim, str], Awaitable[object]]] = {
    "save": lambda bench, claim, _: bench.moved(claim.run, State.SUCCEEDED),
    "licence": lambda bench, claim, _: bench.store.licence(bench.request(claim, attempt=2)),
    "conclude": lambda bench, claim, effect: bench.store.conclude(
        claim.run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at), effect, "done", {}, entry(claim.run)
    ),
    "ask": lambda bench, claim, _: bench.asked(claim),
}
"""Every verb that moves a run for its owner."""


class Claims:
    """The verbs ``claim``, ``renew`` and ``save``, and the fence that all writes of an owner share."""

    async def test_a_claim_makes_the_run_ours(self, bench: Bench) -> None:
        """A claimed run carries its owner, a lease by the store's clock, the next epoch, and a record of it."""
        receipt = await bench.fires()
        claim = await bench.claim_one("w7", lease=30)
        run = claim.run
        assert (run.id, run.state, run.owner, run.epoch) == (receipt.runs[0], State.RUNNING, "w7", 1)
        assert run.lease_until == T0 + 30
        assert (claim.incident.id, claim.effects) == (run.incident_id, ())
        assert await bench.store.run(run.id) == run
        assert (await bench.events(run.id))[-1] == "run.started"

    async def test_nothing_is_claimed_twice(self, bench: Bench) -> None:
        """While the lease lasts nobody else gets the run."""
        await bench.fires()
        assert len(await bench.claim("w1", lease=30)) == 1
        bench.clock.pass_(29)
        assert await bench.claim("w2") == []

    async def test_the_longest_waiting_run_is_first(self, bench: Bench) -> None:
        """Runs are claimed in the order in which they became due, and as many as were asked for."""
        for name, wait in (("c", 30.0), ("a", 10.0), ("b", 20.0), ("late", 1000.0)):
            await bench.fires(name, ref(f"rule-{name}", wait=wait))
        bench.clock.pass_(100)
        first = await bench.claim(most=2)
        second = await bench.claim(most=2)
        assert [claim.run.rule for claim in first] == ["rule-a", "rule-b"]
        assert [claim.run.rule for claim in second] == ["rule-c"]

    async def test_runs_are_claimed_from_the_second_they_are_due(self, bench: Bench) -> None:
        """A held run is claimed at the second it named and not before."""
        run = (await bench.running()).run
        await bench.moved(run, State.HELD, wake_at=T0 + 60)
        bench.clock.pass_(59)
        assert await bench.claim() == []
        bench.clock.pass_(1)
        claim = await bench.claim_one()
        assert (claim.run.epoch, (await bench.events(run.id))[-1]) == (2, "run.resumed")

    @pytest.mark.parametrize(
        ("first", "second", "together"),
        [
            ((PROD,), (PROD,), False),
            ((WEB,), (WEB,), False),
            ((WEB,), (DB,), True),
            ((PROD,), (WEB,), False),
            ((WEB,), (PROD,), False),
            ((PROD,), (Lock("stage", "", 1),), True),
            ((WEB,), (Lock("stage", "web", 1),), True),
            ((WEB, DB), (Lock("stage", "", 1), DB), False),
            ((Lock("prod", "", 2),), (Lock("prod", "", 2),), True),
            ((Lock("prod", "web", 2),), (Lock("prod", "", 2),), True),
        ],
    )
    async def test_locks_decide_who_runs_beside_whom(
        self, bench: Bench, first: tuple[Lock, ...], second: tuple[Lock, ...], together: bool
    ) -> None:
        """Two runs act at once only on different subjects, or where the target allows several; the other one waits."""
        await bench.fires("a", ref("rule-a", *first))
        bench.clock.pass_(1)
        await bench.fires("b", ref("rule-b", *second))
        claims = await bench.claim()
        assert [claim.run.rule for claim in claims] == (["rule-a", "rule-b"] if together else ["rule-a"])
        assert await bench.claim("w2") == []
        await bench.moved(claims[0].run, State.SUCCEEDED)
        assert [claim.run.rule for claim in await bench.claim("w2")] == ([] if together else ["rule-b"])

    async def test_as_many_as_the_target_allows(self, bench: Bench) -> None:
        """``max_runs: 3`` lets three runs act on one subject, and the fourth when one of them is done."""
        for number in range(5):
            await bench.fires(f"q{number}", ref(f"rule-{number}", Lock("prod", "web", 3)))
            bench.clock.pass_(1)
        claims = await bench.claim()
        assert [claim.run.rule for claim in claims] == ["rule-0", "rule-1", "rule-2"]
        await bench.moved(claims[1].run, State.FAILED)
        assert [claim.run.rule for claim in await bench.claim()] == ["rule-3"]

    async def test_a_blocked_run_does_not_block_those_behind_it(self, bench: Bench) -> None:
        """A long queue for one target keeps nobody from another target."""
        for number in range(80):
            await bench.fires(f"q{number}", ref(f"rule-{number}", PROD))
        bench.clock.pass_(1)
        await bench.fires("other", ref("rule-other", Lock("stage", "", 1)))
        assert [claim.run.rule for claim in await bench.claim(most=64)] == ["rule-0", "rule-other"]

    async def test_who_only_verifies_keeps_nobody_waiting(self, bench: Bench) -> None:
        """Verifying acts on nothing, so it neither holds a lock nor waits for one."""
        run = (await bench.running("a", ref("rule-a", PROD))).run
        await bench.moved(run, State.VERIFYING, wake_at=T0 + 5)
        await bench.fires("b", ref("rule-b", PROD))
        bench.clock.pass_(5)
        assert [(claim.run.rule, claim.run.state.value) for claim in await bench.claim()] == [
            ("rule-b", "running"),
            ("rule-a", "verifying"),
        ]

    async def test_a_held_run_keeps_nobody_waiting(self, bench: Bench) -> None:
        """A run that waits for a person's yes leaves its target to others."""
        await bench.asked(await bench.running("a", ref("rule-a", PROD)))
        await bench.fires("b", ref("rule-b", PROD))
        assert (await bench.claim_one()).run.rule == "rule-b"

    async def test_sixteen_claimers_get_each_run_once(self, bench: Bench) -> None:
        """However many processes and tasks claim together, no run has two owners."""
        for number in range(60):
            await bench.fires(f"q{number}", ref(f"rule-{number}"))
        found = await asyncio.gather(*(bench.claim(f"w{n % 16}", most=3) for n in range(48)))
        ids = [claim.run.id for claims in found for claim in claims]
        assert len(ids) == len(set(ids)) == 60
        assert all(len(claims) <= 3 for claims in found)

    # leases ----------------------------------------------------------------------------------------------------------

    async def test_a_dead_owners_run_is_taken_over(self, bench: Bench) -> None:
        """When the lease is over another owner gets the run with its licences, the next epoch and one more try."""
        claim = await bench.running("a", ref("rule-a", PROD))
        licence = await bench.licensed(claim)
        bench.clock.pass_(30)
        taken = await bench.claim_one("w2")
        assert (taken.run.id, taken.run.owner, taken.run.epoch, taken.run.tries) == (claim.run.id, "w2", 2, 1)
        assert [(effect.id, effect.state) for effect in taken.effects] == [(licence.effect_id, "intent")]
        assert taken.run.progress == licence.run.progress
        assert (await bench.events(claim.run.id))[-1] == "run.recovered"

    async def test_a_dead_owners_target_stays_locked(self, bench: Bench) -> None:
        """What a dead owner may have done half is settled before anybody else touches the target."""
        claim = await bench.running("a", ref("rule-a", PROD))
        await bench.fires("b", ref("rule-b", PROD))
        bench.clock.pass_(31)
        assert [taken.run.id for taken in await bench.claim("w2")] == [claim.run.id]

    @pytest.mark.parametrize("state", [State.HELD, State.QUEUED])
    async def test_an_open_licence_keeps_its_locks(self, bench: Bench, state: State) -> None:
        """A run that waits to learn what it has done is like one that acts: nobody else touches the target."""
        claim = await bench.running("a", ref("rule-a", PROD))
        licence = await bench.licensed(claim)
        await bench.moved(licence.run, state, wake_at=T0 + 20)
        await bench.fires("b", ref("rule-b", WEB))
        assert await bench.claim("w2") == []
        bench.clock.pass_(20)
        taken = await bench.claim_one("w2")
        assert (taken.run.id, taken.run.epoch, taken.run.tries) == (claim.run.id, 2, 0)
        assert await bench.claim("w3") == []
        await bench.concluded(licence._replace(run=taken.run), State.HELD, wake_at=T0 + 99)
        assert (await bench.claim_one("w3")).run.rule == "rule-b"

    async def test_a_renewed_lease_lasts(self, bench: Bench) -> None:
        """Renewing counts from now by the store's clock, and changes neither epoch nor version."""
        claim = await bench.running()
        bench.clock.pass_(20)
        assert set(await bench.store.renew([claim.run], 30)) == set()
        bench.clock.pass_(29)
        assert await bench.claim("w2") == []
        assert await bench.store.run(claim.run.id) == replace(claim.run, lease_until=T0 + 50)
        assert (await bench.moved(claim.run, State.SUCCEEDED)).state is State.SUCCEEDED

    async def test_a_write_keeps_the_lease_that_was_renewed(self, bench: Bench) -> None:
        """An owner that goes on writing by its old claim does not shorten the lease that it has renewed meanwhile."""
        claim = await bench.running()
        bench.clock.pass_(20)
        await bench.store.renew([claim.run], 30)
        moved = await bench.moved(claim.run, State.RUNNING)
        licence = await bench.licensed(claim._replace(run=moved))
        bench.clock.pass_(29)
        assert await bench.claim("w2") == []
        assert (await bench.store.run(claim.run.id)).lease_until == T0 + 50
        assert (await bench.concluded(licence, State.HELD, wake_at=T0)).lease_until == 0
        assert (await bench.claim_one("w2")).run.epoch == 2

    async def test_renewing_tells_what_is_lost(self, bench: Bench) -> None:
        """An owner learns which of its runs another one has taken or which have ended, and keeps the rest."""
        runs = {name: (await bench.running(name, ref(f"rule-{name}"))).run for name in ("kept", "taken", "ended")}
        await bench.moved(runs["ended"], State.SUCCEEDED)
        bench.clock.pass_(20)
        await bench.store.renew([runs["kept"]], 30)
        bench.clock.pass_(20)
        await bench.claim("w2")
        assert set(await bench.store.renew(list(runs.values()), 30)) == {runs["taken"].id, runs["ended"].id}

    async def test_a_verifying_run_is_leased_too(self, bench: Bench) -> None:
        """While one owner looks no other one does; when that owner dies the look is taken up again."""
        await bench.moved((await bench.running()).run, State.VERIFYING, wake_at=T0)
        looking = await bench.claim_one("w1")
        bench.clock.pass_(29)
        assert await bench.claim("w2") == []
        bench.clock.pass_(1)
        taken = await bench.claim_one("w2")
        assert (taken.run.state, taken.run.epoch) == (State.VERIFYING, looking.run.epoch + 1)
        assert isinstance(await outcome(bench.moved(looking.run, State.FAILED)), Lost)

    # fences ----------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("verb", STALE_WRITES)
    async def test_an_owner_that_lost_its_run_changes_nothing(self, bench: Bench, verb: str) -> None:
        """A process that slept through its lease can write no state, no licence, no question and no record."""
        old = await bench.running()
        licence = await bench.licensed(old)
        bench.clock.pass_(31)
        new = await bench.claim_one("w2")
        before = await bench.look(new.run.id)
        with pytest.raises(Lost):
            await STALE_WRITES[verb](bench, old._replace(run=licence.run), licence.effect_id)
        assert await bench.look(new.run.id) == before

    @pytest.mark.parametrize("verb", STALE_WRITES)
    async def test_a_write_on_an_older_version_changes_nothing(self, bench: Bench, verb: str) -> None:
        """The same owner twice, as two tasks of one process, cannot write over its own newer state."""
        claim = await bench.running()
        licence = await bench.licensed(claim)
        before = await bench.look(claim.run.id)
        with pytest.raises(Lost):
            await STALE_WRITES[verb](bench, claim, licence.effect_id)
        assert await bench.look(claim.run.id) == before

    @pytest.mark.parametrize("verb", ["save", "licence", "ask"])
    async def test_a_run_that_is_not_there_cannot_be_moved(self, bench: Bench, verb: str) -> None:
        """A write for an unknown run is an error and leaves no record."""
        claim = await bench.running()
        before = await bench.look(claim.run.id)
        with pytest.raises(NotFound):
            await STALE_WRITES[verb](bench, claim._replace(run=replace(claim.run, id="nobody")), "")
        assert await bench.look(claim.run.id) == before

    @pytest.mark.parametrize("state", [State.HELD, State.VERIFYING, State.SUCCEEDED, State.NEEDS_HUMAN])
    async def test_only_moves_of_the_table_are_written(self, bench: Bench, state: State) -> None:
        """A store refuses what the table of moves does not know, even from the rightful owner."""
        run = await bench.moved((await bench.running()).run, state)
        before = await bench.look(run.id)
        for to in State:
            if (state, to) not in MOVES:
                with pytest.raises(StateError):
                    await bench.store.save(replace(run, state=to), entry(run))
        assert await bench.look(run.id) == before

    async def test_a_failed_write_takes_no_neighbour_with_it(self, bench: Bench) -> None:
        """Of many writes at the same moment one that is refused fails alone."""
        claims = [await bench.running(f"q{n}", ref(f"rule-{n}")) for n in range(10)]
        stale = replace(claims[3].run, version=99)

        async def end(run: Run) -> Run:
            return await bench.moved(run, State.SUCCEEDED)

        runs = [stale if number == 3 else claim.run for number, claim in enumerate(claims)]
        results = await asyncio.gather(*(outcome(end(run)) for run in runs))
        assert [isinstance(result, Run) for result in results] == [number != 3 for number in range(10)]
        assert isinstance(results[3], Lost)
        assert (await bench.verified()).ok

    async def test_a_record_that_cannot_be_written_fails_alone(self, bench: Bench) -> None:
        """An entry that is no JSON moves no run, and the writes beside it are committed with their records."""
        claims = [await bench.running(f"q{n}", ref(f"rule-{n}")) for n in range(6)]

        async def end(number: int, claim: Claim) -> Run:
            moved = claim.run.move(State.SUCCEEDED, "done", "done", now=bench.clock.at)
            what = float("nan") if number == 2 else 1.0
            return await bench.store.save(moved, entry(moved, "run.succeeded", figure=what))

        results = await asyncio.gather(*(outcome(end(*pair)) for pair in enumerate(claims)))
        assert isinstance(results[2], ValueError)
        states = [(await bench.store.run(claim.run.id)).state for claim in claims]
        assert states == [State.RUNNING if n == 2 else State.SUCCEEDED for n in range(6)]
        assert (await bench.events()).count("run.succeeded") == 5
        assert (await bench.verified()).ok
        await bench.store.append(Entry(event="still.writing", actor="test"))

    async def test_a_run_that_was_handed_back_is_for_anybody(self, bench: Bench) -> None:
        """A process that stops gives its runs back, and the next one takes them without waiting for the lease."""
        run = await bench.moved((await bench.running()).run, State.QUEUED, wake_at=T0)
        assert (run.owner, run.lease_until) == ("", 0.0)
        assert (await bench.claim_one("w2")).run.tries == 0

    # figures ---------------------------------------------------------------------------------------------------------

    async def test_next_due_is_the_earliest_that_nobody_holds(self, bench: Bench) -> None:
        """A worker can sleep until the next run is due, and runs in hand do not wake it."""
        assert await bench.store.next_due() is None
        await bench.fires("a", ref("rule-a", wait=60.0))
        await bench.fires("b", ref("rule-b", wait=30.0))
        assert await bench.store.next_due() == T0 + 30
        bench.clock.pass_(30)
        run = (await bench.claim_one()).run
        assert await bench.store.next_due() == T0 + 60
        await bench.moved(run, State.VERIFYING, wake_at=T0 + 45)
        assert await bench.store.next_due() == T0 + 45
        bench.clock.pass_(15)
        await bench.claim_one()
        assert await bench.store.next_due() == T0 + 60

    async def test_the_backlog_is_what_acting_still_has_before_it(self, bench: Bench) -> None:
        """Queued, held and running runs count; what only verifies or has ended does not."""
        for number in range(5):
            await bench.fires(f"q{number}", ref(f"rule-{number}"))
        assert await bench.store.backlog() == 5
        claims = await bench.claim()
        await bench.moved(claims[0].run, State.HELD, wake_at=T0 + 9)
        assert await bench.store.backlog() == 5
        await bench.moved(claims[1].run, State.VERIFYING)
        await bench.moved(claims[2].run, State.DENIED)
        assert await bench.store.backlog() == 3

    async def test_counts_are_the_truth(self, bench: Bench) -> None:
        """States, the longest wait, open questions and records are told as they are now."""
        empty = await bench.store.counts()
        assert (dict(empty.states), empty.oldest_due, empty.approvals_pending, empty.audit_records) == ({}, None, 0, 0)
        await bench.fires("a", ref("rule-a", wait=10.0))
        await bench.fires("b", ref("rule-b", wait=20.0))
        await bench.fires("c", ref("rule-c"))
        await bench.asked(await bench.claim_one())
        assert (await bench.store.counts()).oldest_due is None
        bench.clock.pass_(25)
        counts = await bench.store.counts()
        assert dict(counts.states) == {"queued": 2, "held": 1}
        assert (counts.oldest_due, counts.approvals_pending) == (T0 + 10, 1)
        assert counts.audit_records == len(await bench.records())

    async def test_runs_are_listed_newest_first_and_by_page(self, bench: Bench) -> None:
        """Lists can be walked page by page without gaps or repetition, and filtered by state, rule and incident."""
        made = [(await bench.fires(f"q{n}", ref(f"rule-{n % 2}", Lock(f"t{n}", "", 1)))).runs[0] for n in range(7)]
        walked: list[str] = []
        while page := await bench.store.runs(before=walked[-1] if walked else "", limit=3):
            walked += [run.id for run in page]
        assert walked == made[::-1]
        assert [run.id for run in await bench.store.runs(rule="rule-1")] == made[5::-2]
        await bench.moved((await bench.claim(most=1))[0].run, State.DENIED)
        assert [run.id for run in await bench.store.runs(states=[State.DENIED, State.FAILED])] == made[:1]
        one = await bench.store.run(made[4])
        assert [run.id for run in await bench.store.runs(incident=one.incident_id)] == [one.id]
        assert (await bench.store.run("@latest")).id == made[-1]

    async def test_incidents_are_listed_newest_first_and_by_page(self, bench: Bench) -> None:
        """Incidents can be walked, and looked up many at once; unknown ids are left out."""
        for number in range(5):
            await bench.fires(f"q{number}", ref(f"rule-{number}"))
        found = [incident.id for incident in await bench.store.incidents()]
        assert found == sorted(found, reverse=True)
        page = await bench.store.incidents(limit=2)
        rest = await bench.store.incidents(before=page[-1].id)
        assert [incident.id for incident in [*page, *rest]] == found
        assert set(await bench.store.incidents_of([found[0], found[3], "nobody"])) == {found[0], found[3]}

    async def test_what_is_not_there_is_said_so(self, bench: Bench) -> None:
        """Unknown runs and incidents are NotFound, and an unknown run has no licences and no question."""
        for missing in (bench.store.run("nobody"), bench.store.run("@latest"), bench.store.incident("nobody")):
            with pytest.raises(NotFound):
                await missing
        assert list(await bench.store.effects("nobody")) == []
        question: Approval | None = await bench.store.approval("nobody")
        assert question is None
