"""What every store's intake must do: incidents and runs of deliveries, told twice, at once, late or in disorder."""

from __future__ import annotations

import asyncio
import json

import pytest

from remediator.errors import NotFound
from remediator.run import Lock, State
from remediator.store import Claim
from tests.stores.conformance.kit import T0, Bench, arrival, ref, sighting

SHARED = "the key of a group"


class Intake:
    """The verb ``intake``, and the rule bodies that runs are read back with."""

    async def test_a_new_alert_opens_an_incident_and_a_run(self, bench: Bench) -> None:
        """The first notice of a problem leaves an incident and a queued run that says everything about itself."""
        lock = Lock("prod", "deployment/shop/web", 2)
        receipt = await bench.fires("a", ref("rule-a", lock, mode="approve"))
        (run,) = await bench.store.runs()
        incident = await bench.store.incident(run.incident_id)
        assert receipt.runs == (run.id,)
        assert dict(receipt.notices) == {"new": 1}
        assert (run.rule, run.rule_digest, run.mode, run.state) == ("rule-a", "digest of rule-a", "approve", "queued")
        assert (run.locks, run.epoch, run.version, run.tries, run.owner) == ((lock,), 0, 1, 0, "")
        assert (run.created_at, run.due_at, run.wake_at) == (T0, T0, T0)
        assert incident.open and incident.opened_at == T0
        assert incident.labels == {"alertname": "QueueHigh", "queue": "a"}
        assert incident.annotations == {"summary": "queue a is long"}
        assert await bench.events() == ["delivery.accepted", "run.queued"]

    async def test_the_delivery_is_recorded_with_what_it_led_to(self, bench: Bench) -> None:
        """An auditor can tell from one record who delivered what, and which runs it opened."""
        receipt = await bench.fires("a")
        record = (await bench.records())[0]
        detail = json.loads(record.body)["detail"]
        assert record.actor == "alertmanager:am-1"
        assert (detail["delivery"], detail["runs"]) == (receipt.delivery_id, list(receipt.runs))
        assert (detail["notices"], detail["alerts"]) == ({"new": 1}, 1)
        assert len(detail["body_sha256"]) == 64

    async def test_every_rule_gets_one_run(self, bench: Bench) -> None:
        """Two rules that answer one alert get a run each, for the same incident."""
        receipt = await bench.fires("a", ref("rule-a"), ref("rule-b"))
        runs = await bench.store.runs()
        assert sorted(run.rule for run in runs) == ["rule-a", "rule-b"]
        assert len({run.incident_id for run in runs}) == 1
        assert set(receipt.runs) == {run.id for run in runs}

    async def test_a_repeat_opens_nothing(self, bench: Bench) -> None:
        """What Alertmanager tells again at every repeat_interval is the incident that is known, and is seen again."""
        await bench.fires("a")
        bench.clock.pass_(3600)
        receipt = await bench.fires("a", start=T0 + 12)
        assert (receipt.runs, dict(receipt.notices)) == ((), {"repeat": 1})
        (incident,) = await bench.store.incidents()
        assert incident.seen_at == T0 + 3600
        assert (await bench.store.counts()).states == {"queued": 1}

    async def test_a_further_alert_joins(self, bench: Bench) -> None:
        """A second alert of the same incident is kept in it and opens no run."""
        await bench.fires("a", key=SHARED)
        receipt = await bench.fires("b", key=SHARED)
        (incident,) = await bench.store.incidents()
        assert (receipt.runs, dict(receipt.notices)) == ((), {"joined": 1})
        assert len(incident.firing()) == 2

    async def test_only_the_last_end_closes(self, bench: Bench) -> None:
        """An incident goes on until the last of its alerts has ended."""
        await bench.fires("a", key=SHARED)
        await bench.fires("b", key=SHARED)
        bench.clock.pass_(60)
        assert dict((await bench.ends("a", key=SHARED)).notices) == {"resolved": 1}
        assert (await bench.store.incidents())[0].open
        bench.clock.pass_(60)
        assert dict((await bench.ends("b", key=SHARED)).notices) == {"closed": 1}
        (incident,) = await bench.store.incidents()
        assert incident.ended_at == T0 + 120
        assert await bench.store.incidents(open_only=True) == []

    async def test_a_late_firing_notice_starts_nothing(self, bench: Bench) -> None:
        """A notice of a life that has ended is stale however late it comes."""
        await bench.fires("a")
        bench.clock.pass_(60)
        await bench.ends("a")
        bench.clock.pass_(60)
        receipt = await bench.fires("a", start=T0)
        assert (receipt.runs, dict(receipt.notices)) == ((), {"stale": 1})
        assert (await bench.store.counts()).states == {"cancelled": 1}

    async def test_an_end_before_its_beginning_starts_nothing(self, bench: Bench) -> None:
        """When the firing notice is overtaken by its own end, no run is ever opened for it."""
        bench.started["a"] = T0
        bench.clock.pass_(60)
        assert dict((await bench.ends("a")).notices) == {"stale": 1}
        receipt = await bench.fires("a", start=T0)
        assert (receipt.runs, dict(receipt.notices)) == ((), {"stale": 1})
        assert await bench.store.runs() == []

    async def test_a_relapse_is_a_new_incident(self, bench: Bench) -> None:
        """The same problem later is another incident with another run."""
        await bench.fires("a")
        bench.clock.pass_(60)
        await bench.ends("a")
        bench.clock.pass_(1)
        receipt = await bench.fires("a")
        assert (len(receipt.runs), dict(receipt.notices)) == (1, {"new": 1})
        assert [incident.open for incident in await bench.store.incidents()] == [True, False]

    async def test_a_life_whose_end_was_lost_is_superseded(self, bench: Bench) -> None:
        """The alert begins again without an end: its first incident ends there and the run that waited is cancelled."""
        first = (await bench.fires("a")).runs[0]
        bench.clock.pass_(600)
        second = (await bench.fires("a")).runs[0]
        newer, older = await bench.store.incidents()
        assert (newer.open, older.ended_at) == (True, T0 + 600)
        run = await bench.store.run(first)
        assert (run.state, run.reason) == (State.CANCELLED, "superseded")
        assert (await bench.store.run(second)).state is State.QUEUED

    async def test_an_alert_twice_in_one_delivery_is_one(self, bench: Bench) -> None:
        """A body that holds the same alert twice opens one run."""
        one = sighting("a", rules=(ref(),))
        receipt = await bench.store.intake(arrival(one, one))
        assert (len(receipt.runs), dict(receipt.notices)) == (1, {"new": 1, "repeat": 1})

    async def test_one_delivery_may_open_and_close(self, bench: Bench) -> None:
        """A body with the firing and the resolved notice of one life leaves a cancelled run and nothing to do."""
        told = sighting("a", rules=(ref(),)), sighting("a", firing=False, end=T0 + 9, rules=(ref(),))
        receipt = await bench.store.intake(arrival(*told))
        assert dict(receipt.notices) == {"new": 1, "closed": 1}
        assert (await bench.store.run(receipt.runs[0])).state is State.CANCELLED
        assert await bench.claim() == []

    async def test_the_same_delivery_from_many_peers_at_once_is_one_run(self, bench: Bench) -> None:
        """Forty copies that arrive together, as from a cluster after an outage, open exactly one run."""
        names = [f"q{number}" for number in range(5)]
        copies = [arrival(*(sighting(name, rules=(ref(),)) for name in names), source=f"am-{n}") for n in range(40)]
        receipts = await asyncio.gather(*(bench.store.intake(copy) for copy in copies))
        runs = await bench.store.runs(limit=1000)
        assert sorted(run_id for receipt in receipts for run_id in receipt.runs) == sorted(run.id for run in runs)
        assert len(runs) == len({run.incident_id for run in runs}) == 5
        assert sum(receipt.notices.get("new", 0) for receipt in receipts) == 5
        assert sum(receipt.notices.get("repeat", 0) for receipt in receipts) == 195
        assert len({receipt.delivery_id for receipt in receipts}) == 40

    async def test_a_delivery_of_many_alerts_is_whole(self, bench: Bench) -> None:
        """Every alert of a large body has its incident and its run."""
        told = [sighting(f"q{number}", rules=(ref(f"rule-{number % 3}"),)) for number in range(500)]
        receipt = await bench.store.intake(arrival(*told))
        assert len(set(receipt.runs)) == 500
        assert (await bench.store.counts()).states == {"queued": 500}
        assert len(await bench.store.incidents(limit=1000)) == 500

    async def test_waiting_rules_are_due_later(self, bench: Bench) -> None:
        """``for: 2m`` counts from the alert's own start and never from the delivery."""
        bench.clock.pass_(90)
        receipt = await bench.fires("a", ref(wait=120.0), start=T0)
        assert (await bench.store.run(receipt.runs[0])).wake_at == T0 + 120
        assert await bench.claim() == []
        bench.clock.pass_(30)
        assert len(await bench.claim()) == 1

    async def test_text_of_any_language_is_kept(self, bench: Bench) -> None:
        """Labels and annotations come back as they were sent, whatever they hold."""
        text = "größer ' \" \\ % _ ${x} 数 🙂 \u202e"
        await bench.store.intake(arrival(sighting(text, rules=(ref(),), annotations={"summary": text})))
        (incident,) = await bench.store.incidents()
        assert incident.labels["queue"] == incident.annotations["summary"] == text

    async def test_an_old_problem_with_many_lives_is_still_told_apart(self, bench: Bench) -> None:
        """After dozens of lives of one alert, the newest is still a repeat and the first still stale."""
        for _ in range(30):
            await bench.fires("a")
            bench.clock.pass_(100)
            await bench.ends("a")
            bench.clock.pass_(100)
        newest = await bench.fires("a")
        assert len(newest.runs) == 1
        assert dict((await bench.fires("a", start=bench.clock.at + 5)).notices) == {"repeat": 1}
        assert dict((await bench.fires("a", start=T0)).notices) == {"stale": 1}

    # what an end does to runs ----------------------------------------------------------------------------------------

    async def test_an_end_cancels_what_has_not_begun(self, bench: Bench) -> None:
        """Queued and held runs of an incident that has ended are cancelled, with the record that says why."""
        queued = (await bench.fires("a", ref("rule-a"), ref("rule-b"))).runs
        held = next(claim for claim in await bench.claim() if claim.run.rule == "rule-b").run
        await bench.moved(held, State.HELD, wake_at=T0 + 9_999)
        taken = next(run for run in queued if run != held.id)
        await bench.moved(await bench.store.run(taken), State.QUEUED)
        bench.clock.pass_(60)
        await bench.ends("a")
        for run_id in queued:
            run = await bench.store.run(run_id)
            assert (run.state, run.reason) == (State.CANCELLED, "resolved")
            assert (await bench.events(run_id))[-1] == "run.cancelled"

    async def test_an_end_withdraws_the_question(self, bench: Bench) -> None:
        """Nobody is asked any more about a problem that has gone."""
        run = await bench.asked(await bench.running())
        bench.clock.pass_(60)
        await bench.ends("a")
        approval = await bench.store.approval(run.id)
        assert approval is not None and approval.state == "cancelled"
        assert (await bench.store.counts()).approvals_pending == 0

    async def test_an_end_does_not_interrupt_what_runs(self, bench: Bench) -> None:
        """A run in its owner's hands is left alone: the owner finds out at the licence."""
        claim = await bench.running()
        bench.clock.pass_(10)
        await bench.ends("a")
        assert await bench.store.run(claim.run.id) == claim.run

    async def test_an_end_wakes_what_verifies(self, bench: Bench) -> None:
        """A run that waits for the problem to go looks at once, and may save what it saw."""
        run = await bench.moved((await bench.running()).run, State.VERIFYING, wake_at=T0 + 600)
        assert await bench.claim() == []
        bench.clock.pass_(10)
        await bench.ends("a")
        claim: Claim = await bench.claim_one()
        assert (claim.run.id, claim.run.state, claim.incident.open) == (run.id, State.VERIFYING, False)
        assert (await bench.moved(claim.run, State.SUCCEEDED)).state is State.SUCCEEDED

    async def test_an_end_while_a_run_is_looking_is_not_missed(self, bench: Bench) -> None:
        """When the end comes between a look and its record, the run looks again at once and not a turn later."""
        await bench.moved((await bench.running()).run, State.VERIFYING, wake_at=T0)
        looking = await bench.claim_one()
        bench.clock.pass_(1)
        await bench.ends("a")
        bench.clock.pass_(1)
        await bench.moved(looking.run, State.VERIFYING, wake_at=T0 + 600)
        assert (await bench.claim_one()).incident.open is False

    async def test_an_end_wakes_a_held_run_that_has_acted(self, bench: Bench) -> None:
        """A run that waits between two steps is not cancelled over its effects: it is woken to conclude for itself."""
        licence = await bench.licensed(await bench.running())
        await bench.concluded(licence, State.HELD, state="failed", wake_at=T0 + 600)
        bench.clock.pass_(10)
        await bench.ends("a")
        claim = await bench.claim_one()
        assert (claim.run.state, len(claim.effects)) == (State.RUNNING, 1)

    # rules -----------------------------------------------------------------------------------------------------------

    async def test_rule_bodies_are_kept_by_digest(self, bench: Bench) -> None:
        """A run can be read back by the very rule it was planned by, also after thousands of reloads."""
        await bench.store.remember({"d1": '{"name":"ü"}', "d2": "{}"})
        await bench.store.remember({"d1": "another body under a digest that is taken", "d3": "{}"})
        assert await bench.store.rule_body("d1") == '{"name":"ü"}'
        assert await bench.store.rule_body("d3") == "{}"
        with pytest.raises(NotFound):
            await bench.store.rule_body("d4")
