"""Proves what a batch of deliveries settles to: in order, each seeing the ones before it, with a record of each."""

from __future__ import annotations

from remediator.arrival import settle
from remediator.incident import HISTORY, Incident
from remediator.run import State
from tests.stores.conformance.kit import T0, CountingIds, arrival, ref, sighting


def test_a_batch_is_settled_in_its_order() -> None:
    """The second delivery of a batch sees what the first one opened, so that two copies in one commit are one run."""
    one = arrival(sighting("a", rules=(ref(),)))
    settled = settle([one, one, one], {}, CountingIds(), T0, 60.0)
    assert [dict(receipt.notices) for receipt in settled.receipts] == [{"new": 1}, {"repeat": 1}, {"repeat": 1}]
    assert len(settled.opened) == len(settled.runs) == 1
    assert settled.receipts[0].runs == (settled.runs[0].id,) and settled.receipts[1].runs == ()


def test_an_incident_opened_and_closed_in_one_batch_is_written_once_and_closed() -> None:
    """What is opened and ended before it was ever stored is stored as ended, and its runs are to be cancelled."""
    told = [
        arrival(sighting("a", rules=(ref(),))),
        arrival(sighting("a", firing=False, end=T0 + 5, rules=(ref(),)), at=T0 + 5),
    ]
    settled = settle(told, {}, CountingIds(), T0 + 5, 60.0)
    (incident,) = settled.opened.values()
    assert incident.ended_at == T0 + 5
    assert settled.changed == {} and settled.closed == {incident.id: "resolved"}


def test_a_superseded_incident_is_closed_with_its_reason() -> None:
    """A life that begins again closes the one before it, and both are to be written."""
    histories: dict[str, list[Incident]] = {}
    ids = CountingIds()
    first = settle([arrival(sighting("a", rules=(ref(),)))], histories, ids, T0, 60.0)
    second = settle([arrival(sighting("a", start=T0 + 900, rules=(ref(),)))], histories, ids, T0 + 900, 60.0)
    (old,) = first.opened
    assert second.closed == {old: "superseded"}
    assert second.changed[old].ended_at == T0 + 900
    assert len(second.opened) == len(second.runs) == 1


def test_each_matching_rule_gets_a_run_that_waits_as_it_says() -> None:
    """A run is due when the alert has fired long enough, counted from the alert's own start, and never in the past."""
    rules = (ref("now"), ref("soon", wait=120.0), ref("over", wait=10.0))
    settled = settle([arrival(sighting("a", start=T0, rules=rules))], {}, CountingIds(), T0 + 60, 60.0)
    due = {run.rule: (run.wake_at, run.due_at) for run in settled.runs}
    assert due == {"now": (T0 + 60,) * 2, "soon": (T0 + 120,) * 2, "over": (T0 + 60,) * 2}
    assert {run.state for run in settled.runs} == {State.QUEUED}


def test_every_delivery_and_every_run_has_its_record() -> None:
    """A delivery that matches nothing is recorded like one that opens runs."""
    nothing = arrival()._replace(unmatched=3)
    settled = settle([nothing, arrival(sighting("a", rules=(ref("x"), ref("y"))))], {}, CountingIds(), T0, 60.0)
    assert [entry.event for entry in settled.entries] == ["delivery.accepted"] * 2 + ["run.queued"] * 2
    assert settled.entries[0].detail["unmatched"] == 3
    assert settled.entries[1].detail["runs"] == [run.id for run in settled.runs]
    assert [entry.run_id for entry in settled.entries[2:]] == [run.id for run in settled.runs]
    assert settled.entries[0].actor == "alertmanager:am-1"


def test_a_history_is_kept_short() -> None:
    """However often a problem comes back, only its newest incidents are carried along, the newest first."""
    histories: dict[str, list[Incident]] = {}
    ids = CountingIds()
    for number in range(HISTORY + 5):
        settle([arrival(sighting("a", start=T0 + 900 * number, rules=(ref(),)))], histories, ids, T0, 60.0)
    ((_, history),) = histories.items()
    assert len(history) == HISTORY
    assert [incident.id for incident in history] == sorted((i.id for i in history), reverse=True)
    assert [incident.open for incident in history] == [True] + [False] * (HISTORY - 1)
