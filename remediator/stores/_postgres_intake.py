"""The intake transaction of the PostgreSQL store (design D1): lock the problems, load histories, settle, write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remediator.arrival import Arrival, Receipt, Settled, settle
from remediator.ids import Ids
from remediator.incident import HISTORY, Incident
from remediator.run import NOT_STARTED, Kind, State
from remediator.stores import _decide
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_session import Transaction, unnest
from remediator.stores._postgres_write import write_runs
from remediator.stores._rows import INCIDENT, RUN, incident_row, read_incident, read_run, run_row

_GATE: Name = ("intake",)
_MOST_LOCKS = 256
"""How many problems are locked one by one. The lock table of a server has room for some thousands of them."""

_HISTORIES = (
    "SELECT n.now, i.* FROM (SELECT remediator_now() AS now) AS n LEFT JOIN ("  # noqa: S608
    f"SELECT h.*, k.key AS asked FROM unnest($1::text[]) AS k (key) CROSS JOIN LATERAL (SELECT {INCIDENT}, ordinal"
    " FROM incident WHERE key = k.key ORDER BY ordinal DESC LIMIT $2) AS h) AS i ON true"
    " ORDER BY i.ordinal DESC"
)
_CHANGED = ("id", "members", "opened_at", "seen_at", "ended_at")


def keys_of(arrivals: Iterable[Arrival]) -> set[str]:
    """The problems that the deliveries are about."""
    return {sighting.key for arrival in arrivals for sighting in arrival.sightings}


def locks(keys: set[str]) -> tuple[Sequence[Name], Sequence[Name]]:
    """What an intake transaction locks alone and shared, so that a problem is settled by one replica at a time.

    A storm of very many problems takes the gate alone instead of each of them.
    """
    if len(keys) > _MOST_LOCKS:
        return [_GATE], []
    return [("problem", key) for key in keys], [_GATE]


async def intake(transaction: Transaction, arrivals: Sequence[Arrival], ids: Ids, tolerance: float) -> list[Receipt]:
    """Everything the deliveries mean, written in this transaction."""
    histories, now = await _histories(transaction, keys_of(arrivals))
    settled = settle(arrivals, histories, ids, now, tolerance)
    await _write(transaction, arrivals, settled, now)
    transaction.record(*settled.entries)
    if settled.closed:
        await _close_runs(transaction, settled, now)
    transaction.wakes = bool(settled.runs or settled.closed)
    return settled.receipts


async def _histories(transaction: Transaction, keys: set[str]) -> tuple[dict[str, list[Incident]], float]:
    histories: dict[str, list[Incident]] = {key: [] for key in keys}
    # This statement begins after the locks were granted, so it sees what their last holder committed.
    rows = await transaction.all(_HISTORIES, list(keys), HISTORY)
    for row in rows:
        if row[1] is not None:
            histories[row[2]].append(read_incident(row[1:8]))
    return histories, float(rows[0][0])


async def _write(transaction: Transaction, arrivals: Sequence[Arrival], settled: Settled, now: float) -> None:
    await transaction.insert(
        "delivery",
        "id,source,received_at,body_sha256,body_bytes",
        [
            (receipt.delivery_id, a.source, a.received_at, a.delivery.digest, a.delivery.body)
            for a, receipt in zip(arrivals, settled.receipts, strict=True)
        ],
    )
    await transaction.insert("incident", INCIDENT, [incident_row(i) for i in settled.opened.values()])
    if settled.changed:
        rows = [incident_row(incident) for incident in settled.changed.values()]
        await transaction.run(
            "UPDATE incident SET members = c.members, opened_at = c.opened_at, seen_at = c.seen_at,"  # noqa: S608
            f" ended_at = c.ended_at FROM {unnest(_CHANGED)} AS c ({','.join(_CHANGED)}) WHERE incident.id = c.id",
            *zip(*[(row[0], *row[3:]) for row in rows], strict=True),
        )
    if settled.seen:
        await transaction.run("UPDATE incident SET seen_at = $1 WHERE id = ANY($2::text[])", now, list(settled.seen))
    await transaction.insert("run", RUN, [run_row(run) for run in settled.runs])


async def _close_runs(transaction: Transaction, settled: Settled, now: float) -> None:
    rows = await transaction.all(
        f"SELECT {RUN}, EXISTS (SELECT 1 FROM effect WHERE run_id = run.id) FROM run"  # noqa: S608
        " WHERE incident_id = ANY($1::text[]) AND state IN ('queued','held','verifying') ORDER BY id FOR UPDATE",
        list(settled.closed),
    )
    moved, woken = [], []
    for row in rows:
        run = read_run(row)
        if run.state is State.VERIFYING or row[-1] or run.kind is not Kind.REMEDY:
            # It has begun and is never interrupted: let it look now at what the end means for it.
            woken.append(run.id)
        elif run.state in NOT_STARTED:
            after, entry = _decide.ended(run, settled.closed[run.incident_id], now)
            moved.append(after)
            transaction.record(entry)
    if woken:
        await transaction.run("UPDATE run SET wake_at = $1 WHERE id = ANY($2::text[])", now, woken)
    if moved:
        await write_runs(transaction, moved)
        await transaction.run(
            "UPDATE approval SET state = 'cancelled' WHERE run_id = ANY($1::text[]) AND state = 'pending'",
            [run.id for run in moved],
        )
