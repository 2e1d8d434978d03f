"""The intake transaction of the PostgreSQL store (design D1): lock the problems, load histories, settle, write.

Deliveries that only repeat what this replica knows are kept by one statement, which makes sure that it is still so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from remediator.arrival import Arrival, Receipt, Settled, settle
from remediator.ids import Ids
from remediator.incident import HISTORY, SEEN_WITHIN, Incident, Notice
from remediator.run import NOT_STARTED, Kind, State
from remediator.stores import _decide
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_known import Known, Read
from remediator.stores._postgres_session import Rows, Session, Transaction, appended, unnest
from remediator.stores._postgres_write import write_runs
from remediator.stores._rows import INCIDENT, RUN, incident_row, read_incident, read_run, run_row

_GATE: Name = ("intake",)
_MOST_LOCKS = 256
"""How many problems are locked one by one. The lock table of a server has room for some thousands of them."""

_HISTORIES = (
    "SELECT n.now, i.* FROM (SELECT remediator_now() AS now) AS n LEFT JOIN ("  # noqa: S608
    f"SELECT h.* FROM unnest($1::text[]) AS k (key) CROSS JOIN LATERAL (SELECT {INCIDENT}, xmin, ordinal"
    " FROM incident WHERE key = k.key ORDER BY ordinal DESC LIMIT $2) AS h) AS i ON true"
    " ORDER BY i.ordinal DESC"
)
_AGAIN = (
    "SELECT told_again($1::text[], $2::xid[], $3::double precision[], $4, $5::text[], $6::text[],"
    " $7::double precision[], $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[],"
    " $14::text[], $15::text[])"
)
_NEVER = float("-inf")
"""A time at which nothing was seen too long ago: that, the database finds out."""
_DELIVERY = "id,source,received_at,body_sha256,body_bytes"
_QUEUED = (
    "state", "reason", "message", "epoch", "version", "owner", "lease_until", "created_at", "updated_at", "tries",
    "progress", "kind", "about",
)  # fmt: skip
"""In these columns all runs that one batch opens are alike."""
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


async def intake(
    transaction: Transaction, arrivals: Sequence[Arrival], known: Known, ids: Ids, tolerance: float
) -> list[Receipt]:
    """Everything the deliveries mean, written in this transaction."""
    keys = keys_of(arrivals)
    histories, newest, now = await _histories(transaction, keys)
    settled = settle(arrivals, histories, ids, now, tolerance)
    transaction.record(*settled.entries)
    transaction.wakes = bool(settled.runs or settled.closed)
    rows = _rows(arrivals, settled)
    if settled.closed:
        # A run may be opened and cancelled by one batch.
        await transaction.insert(*rows)
        rows = ()
    await _change(transaction, settled, now)
    if settled.closed:
        await _close_runs(transaction, settled, now)
    await transaction.finish(*rows)
    known.forget(keys)
    for key, read in newest.items():
        # What this transaction changes gets a version that only its commit will tell.
        if read.incident.open and histories[key][0] is read.incident:
            known.keep(read)
    return settled.receipts


class Again(NamedTuple):
    """Deliveries that tell nothing new, if the incidents they speak of are as ``reads`` says."""

    arrivals: Sequence[Arrival]
    settled: Settled
    reads: Sequence[Read]


def again(arrivals: Sequence[Arrival], known: Known, ids: Ids, tolerance: float) -> Again | None:
    """The deliveries as repeats of incidents that this replica knows; None if one of them may be anything else.

    What a repeat means depends on the newest incident of its key alone: that is open, and before it has ended none
    can be newer.
    """
    reads = known.of(keys_of(arrivals))
    if reads is None:
        return None
    settled = settle(arrivals, {key: [read.incident] for key, read in reads.items()}, ids, _NEVER, tolerance)
    if settled.opened or settled.changed or settled.seen:
        return None
    if any(notice is not Notice.REPEAT for receipt in settled.receipts for notice in receipt.notices):
        return None
    return Again(arrivals, settled, [*reads.values()])


async def keep_again(session: Session, told: Again) -> bool:
    """Keep the deliveries by one statement, if the incidents are so; else nothing is written."""
    row = await session.one(
        _AGAIN,
        [read.incident.id for read in told.reads],
        [read.version for read in told.reads],
        [read.incident.seen_at for read in told.reads],
        SEEN_WITHIN,
        *zip(*_deliveries(told.arrivals, told.settled), strict=True),
        *appended(told.settled.entries),
    )
    return bool(row[0])


async def _histories(
    transaction: Transaction, keys: set[str]
) -> tuple[dict[str, list[Incident]], dict[str, Read], float]:
    histories: dict[str, list[Incident]] = {key: [] for key in keys}
    newest: dict[str, Read] = {}
    # This statement begins after the locks were granted, so it sees what their last holder committed.
    rows = await transaction.all(_HISTORIES, list(keys), HISTORY)
    for row in rows:
        if row[1] is not None:
            incident = read_incident(row[1:8])
            histories[incident.key].append(incident)
            newest.setdefault(incident.key, Read(incident, row[8]))
    return histories, newest, float(rows[0][0])


def _deliveries(arrivals: Sequence[Arrival], settled: Settled) -> list[tuple[object, ...]]:
    return [
        (receipt.delivery_id, a.source, a.received_at, a.delivery.digest, a.delivery.body)
        for a, receipt in zip(arrivals, settled.receipts, strict=True)
    ]


def _rows(arrivals: Sequence[Arrival], settled: Settled) -> tuple[Rows, ...]:
    return (
        Rows("delivery", _DELIVERY, _deliveries(arrivals, settled)),
        Rows("incident", INCIDENT, [incident_row(i) for i in settled.opened.values()]),
        Rows("run", RUN, [run_row(run) for run in settled.runs], _QUEUED),
    )


async def _change(transaction: Transaction, settled: Settled, now: float) -> None:
    if settled.changed:
        rows = [incident_row(incident) for incident in settled.changed.values()]
        await transaction.run(
            "UPDATE incident SET members = c.members, opened_at = c.opened_at, seen_at = c.seen_at,"  # noqa: S608
            f" ended_at = c.ended_at FROM {unnest(_CHANGED)} AS c ({','.join(_CHANGED)}) WHERE incident.id = c.id",
            *zip(*[(row[0], *row[3:]) for row in rows], strict=True),
        )
    if settled.seen:
        await transaction.run("UPDATE incident SET seen_at = $1 WHERE id = ANY($2::text[])", now, list(settled.seen))


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
