"""What every store must do when history is removed: take what is over and old, and nothing that still counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediator.anchor import Walk
from remediator.audit import AuditRecord, Entry
from remediator.errors import NotFound
from remediator.guard import Limit
from remediator.run import State
from remediator.store import Pruned
from tests.stores.conformance.kit import T0, Bench, ref

DAY = 86400.0
KEEP = 30 * DAY


async def everything_old(bench: Bench, keep: float = KEEP, most: int = 100) -> list[Pruned]:
    """What each call removed, until nothing is left to remove."""
    done = [await bench.store.prune(keep, most)]
    while done[-1].more:
        done.append(await bench.store.prune(keep, most))
    return done


async def fill(bench: Bench, records: int) -> None:
    """Let the audit have exactly ``records``."""
    count = len(await bench.records())
    await bench.store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(count, records)))


def removals(records: list[AuditRecord]) -> list[dict[str, Any]]:
    """What the audit says was removed."""
    return [json.loads(record.body)["detail"] for record in records if record.event == "storage.pruned"]


class Retention:
    """The verb ``prune``."""

    async def test_what_is_young_stays(self, bench: Bench) -> None:
        """Nothing that ended within the time that is kept is removed, and a call without effect leaves no record."""
        await bench.acted("a", ref("rule-a"))
        await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP - 1)
        before = await bench.records()
        assert await bench.store.prune(KEEP, 100) == Pruned(0, 0, 0, 0, 0, False, "")
        assert await bench.records() == before

    async def test_what_is_over_and_old_goes_whole(self, bench: Bench) -> None:
        """An old ended run goes with its licences, evidence and approvals, and then its incident and its delivery."""
        claim = await bench.running("a", ref("rule-a"))
        await bench.asked(claim)
        await bench.store.vote(claim.run.id, "what was shown", "user:ann", True, "")
        licence = await bench.licensed(await bench.claim_one())
        await bench.store.late(licence.effect_id, "done", {}, Entry(event="effect.late", actor="remediator"))
        await bench.concluded(licence)
        await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP + 1)
        (done,) = await everything_old(bench)
        assert done == Pruned(2, 1, 1, 1, 0, False, "")
        with pytest.raises(NotFound):
            await bench.store.run(claim.run.id)
        with pytest.raises(NotFound):
            await bench.store.incident(claim.incident.id)
        assert list(await bench.store.effects(claim.run.id)) == []
        assert await bench.store.approval(claim.run.id) is None

    async def test_it_is_recorded(self, bench: Bench) -> None:
        """The audit says how much of what was removed, and up to when, in the same commit; its chain stays whole."""
        await bench.acted("a", ref("rule-a"))
        await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP + 60)
        await everything_old(bench)
        (detail,) = removals(await bench.records())
        assert detail == {
            "before": "2023-11-14T22:14:20.000000Z", "deliveries": 2, "effects": 1, "incidents": 1, "runs": 1,
        }  # fmt: skip
        assert (await bench.verified()).ok

    @pytest.mark.parametrize("state", [State.QUEUED, State.HELD, State.RUNNING, State.VERIFYING, State.NEEDS_HUMAN])
    async def test_what_goes_on_or_needs_a_person_stays(self, bench: Bench, state: State) -> None:
        """However old it is, a run that is not over stays, and so do its incident and its licences."""
        if state is State.QUEUED:
            (run_id,) = (await bench.fires("a", ref("rule-a"))).runs
        else:
            licence = await bench.licensed(await bench.running("a", ref("rule-a")))
            run_id = licence.run.id
            if state is not State.RUNNING:
                await bench.concluded(licence, state, "unknown", wake_at=T0 + 1000 * DAY)
        if state is not State.QUEUED:
            await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP * 10)
        effects = await bench.store.effects(run_id)
        done = await everything_old(bench)
        assert [(one.runs, one.effects, one.incidents) for one in done] == [(0, 0, 0)]
        run = await bench.store.run(run_id)
        assert run.state is state
        assert (await bench.store.incident(run.incident_id)).id == run.incident_id
        assert await bench.store.effects(run_id) == effects

    async def test_an_open_incident_stays(self, bench: Bench) -> None:
        """A problem that has not ended is kept, so that a repeat of its alert is still known to be a repeat."""
        run = await bench.acted("a", ref("rule-a"))
        bench.clock.pass_(KEEP * 2)
        done = await everything_old(bench)
        assert (done[0].runs, done[0].incidents) == (1, 0)
        assert (await bench.store.incident(run.incident_id)).open
        assert (await bench.fires("a", ref("rule-a"), start=T0)).notices == {"repeat": 1}

    async def test_an_incident_that_is_still_told_of_stays(self, bench: Bench) -> None:
        """As long as Alertmanager tells of an ended problem, its history is what shows that the notice is stale."""
        await bench.fires("a", ref("rule-a"))
        await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP + 1)
        assert (await bench.store.prune(KEEP, 100)).incidents == 1
        assert (await bench.fires("a", ref("rule-a"))).notices == {"new": 1}

    async def test_limits_keep_what_they_count(self, bench: Bench) -> None:
        """A licence within the window of a limit is not removed, so a limit refuses after a removal as before it."""
        limit = Limit(guard="rate_limit", scope="rule", runs=1, window=KEEP)
        cooldown = Limit(guard="cooldown", scope="rule", runs=1, window=KEEP, since="end")
        await bench.acted("a", ref("rule-a"))
        await bench.ends("a", ref("rule-a"))
        bench.clock.pass_(KEEP - 1)
        await everything_old(bench)
        claim = await bench.running("b", ref("rule-a"))
        assert (await bench.refused(claim, limits=[limit])).reason == "rate_limit"
        assert (await bench.refused(claim, limits=[cooldown])).reason == "cooldown"
        bench.clock.pass_(2)
        assert (await everything_old(bench))[0].effects == 1
        await bench.licensed(claim, limits=[limit, cooldown])

    async def test_a_little_at_a_time(self, bench: Bench) -> None:
        """One call removes no more than it was told, so that no commit has to wait long; the calls come to an end."""
        for number in range(7):
            await bench.acted(f"q{number}", ref(f"rule-{number}"))
            await bench.ends(f"q{number}", ref(f"rule-{number}"))
        bench.clock.pass_(KEEP + 1)
        done = await everything_old(bench, most=3)
        assert max(max(one.deliveries, one.runs, one.incidents) for one in done) == 3
        assert sum(one.runs for one in done) == sum(one.incidents for one in done) == 7
        assert sum(one.deliveries for one in done) == 14
        assert list(await bench.store.runs()) == []

    async def test_whole_segments_of_the_audit_go(self, bench: Bench) -> None:
        """Old records go a thousand at a time from the oldest on; what is left verifies and tells what is missing."""
        await fill(bench, 2500)
        bench.clock.pass_(KEEP + 60)
        done = await everything_old(bench)
        assert sum(one.records for one in done) == 2000
        records = await bench.records()
        assert [record.sequence for record in records] == list(range(2001, 2503))
        told = [detail["audit"] for detail in removals(records)]
        assert [(audit["first"], audit["last"]) for audit in told] == [(1, 1000), (1001, 2000)]
        assert told[1]["head"] == records[0].previous
        walk = Walk()
        walk.add(records)
        found = walk.result()
        assert (found.ok, found.records) == (True, 2502)
        assert "records 1 to 2000 were removed on 2023-12-14" in found.message
        assert "whole from 2001" in found.message

    async def test_the_end_of_the_chain_stays(self, bench: Bench) -> None:
        """The newest records stay however old they are: the next record and every checkpoint hang on them."""
        await fill(bench, 1000)
        bench.clock.pass_(KEEP * 5)
        assert not (await bench.store.prune(KEEP, 100)).anything
        await bench.store.append(Entry(event="x", actor="y"))
        assert (await bench.store.prune(KEEP, 100)).records == 1000
        walk = Walk()
        walk.add(await bench.records())
        assert walk.result().ok

    async def test_a_segment_with_a_young_record_stays(self, bench: Bench) -> None:
        """A segment is removed when its newest record is old enough, not when its oldest is."""
        await fill(bench, 999)
        bench.clock.pass_(KEEP)
        await fill(bench, 1500)
        bench.clock.pass_(KEEP)
        assert (await bench.store.prune(KEEP, 100)).records == 0
        bench.clock.pass_(1)
        assert (await bench.store.prune(KEEP, 100)).records == 1000

    async def test_the_chain_goes_on_after_a_removal(self, bench: Bench) -> None:
        """Numbers and digests continue where they were, and old numbers are never given again."""
        await fill(bench, 1500)
        bench.clock.pass_(KEEP + 1)
        await everything_old(bench)
        await bench.acted("a", ref("rule-a"))
        records = await bench.records()
        assert [record.sequence for record in records] == list(range(1001, 1001 + len(records)))
        assert (await bench.store.counts()).audit_records == records[-1].sequence
        walk = Walk()
        walk.add(records)
        assert walk.result().ok
