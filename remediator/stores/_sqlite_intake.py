"""The intake transaction of the SQLite store (design D1): load histories, settle, write."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from operator import attrgetter

from remediator.arrival import Arrival, Receipt, Settled, settle
from remediator.ids import Ids
from remediator.incident import HISTORY, Incident
from remediator.run import NOT_STARTED, Kind, State
from remediator.stores import _decide
from remediator.stores._rows import INCIDENT, RUN, incident_row, read_incident, read_run, run_row
from remediator.stores._sqlite_known import Known
from remediator.stores._sqlite_write import write_run
from remediator.stores._sqlite_writer import Transaction, insert_rows

_INCIDENT = ",".join(f"i.{column}" for column in INCIDENT.split(","))


def intake(
    transaction: Transaction, arrivals: Sequence[Arrival], known: Known, ids: Ids, tolerance: float
) -> list[Receipt]:
    """Everything the deliveries mean, written in this transaction."""
    histories, unknown = known.take({sighting.key for arrival in arrivals for sighting in arrival.sightings})
    if unknown:
        histories |= _histories(transaction, unknown)
    # A problem that is new is mostly not told again for minutes: only what was told before is worth its memory.
    told_before = [key for key, history in histories.items() if history]
    settled = settle(arrivals, histories, ids, transaction.now, tolerance)
    _write(transaction, arrivals, settled)
    transaction.record(*settled.entries)
    if settled.closed:
        _close_runs(transaction, settled)
    known.keep({key: histories[key] for key in told_before})
    return settled.receipts


def _histories(transaction: Transaction, keys: Collection[str]) -> dict[str, list[Incident]]:
    histories: dict[str, list[Incident]] = {key: [] for key in keys}
    # The newest of each key only: a problem that comes back every few minutes has thousands of incidents in a year.
    rows = transaction.all(
        f"SELECT {_INCIDENT} FROM json_each(?) AS k CROSS JOIN incident AS i WHERE i.id IN"  # noqa: S608
        " (SELECT id FROM incident WHERE key = k.value ORDER BY id DESC LIMIT ?)",
        json.dumps(sorted(keys)),
        HISTORY,
    )
    for row in rows:
        histories[row[1]].append(read_incident(row))
    for history in histories.values():
        history.sort(key=attrgetter("id"), reverse=True)
    return histories


def _write(transaction: Transaction, arrivals: Sequence[Arrival], settled: Settled) -> None:
    connection = transaction.connection
    insert_rows(
        connection,
        "delivery",
        "id,source,received_at,body_sha256,body",
        [
            (receipt.delivery_id, a.source, a.received_at, a.delivery.digest, a.delivery.body)
            for a, receipt in zip(arrivals, settled.receipts, strict=True)
        ],
    )
    insert_rows(connection, "incident", INCIDENT, [incident_row(i) for i in settled.opened.values()])
    for incident in settled.changed.values():
        row = incident_row(incident)
        transaction.run(
            "UPDATE incident SET members = ?, opened_at = ?, seen_at = ?, ended_at = ? WHERE id = ?", *row[3:], row[0]
        )
    if settled.seen:
        transaction.run(
            "UPDATE incident SET seen_at = ? WHERE id IN (SELECT value FROM json_each(?))",
            transaction.now,
            json.dumps(list(settled.seen)),
        )
    insert_rows(connection, "run", RUN, [run_row(run) for run in settled.runs])


def _close_runs(transaction: Transaction, settled: Settled) -> None:
    rows = transaction.all(
        f"SELECT {RUN} FROM run WHERE incident_id IN (SELECT value FROM json_each(?))"  # noqa: S608
        " AND state IN ('queued','held','verifying')",
        json.dumps(list(settled.closed)),
    )
    runs = [read_run(row) for row in rows]
    acted = {
        row[0]
        for row in transaction.all(
            "SELECT DISTINCT run_id FROM effect WHERE run_id IN (SELECT value FROM json_each(?))",
            json.dumps([run.id for run in runs]),
        )
    }
    for run in runs:
        if run.state is State.VERIFYING or run.id in acted or run.kind is not Kind.REMEDY:
            # It has begun and is never interrupted: let it look now at what the end means for it.
            transaction.run("UPDATE run SET wake_at = ? WHERE id = ?", transaction.now, run.id)
        elif run.state in NOT_STARTED:
            moved, entry = _decide.ended(run, settled.closed[run.incident_id], transaction.now)
            write_run(transaction, moved)
            transaction.run("UPDATE approval SET state = 'cancelled' WHERE run_id = ? AND state = 'pending'", run.id)
            transaction.record(entry)
