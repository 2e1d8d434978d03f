"""The transaction of the PostgreSQL store that removes what is older than the settings keep: a little at a time."""

from __future__ import annotations

from remediator.store import Pruned
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_session import Transaction
from remediator.stores._retention import ENDED, SEGMENT, Gone, Segment, pruned, segment
from remediator.stores._rows import AUDIT, read_audit

PRUNING: Name = ("prune",)
"""Held alone: replicas remove one after the other and never the same."""

_RUNS = (
    f"SELECT id FROM run WHERE {ENDED} AND updated_at < $1"  # noqa: S608
    " AND NOT EXISTS (SELECT 1 FROM effect WHERE run_id = run.id AND (over_at IS NULL OR over_at >= $1))"
    " ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_INCIDENTS = (
    "DELETE FROM incident WHERE id IN (SELECT id FROM incident AS i"
    " WHERE ended_at IS NOT NULL AND ended_at < $1 AND seen_at < $1"
    " AND NOT EXISTS (SELECT 1 FROM run WHERE incident_id = i.id) ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
)
_DELIVERIES = (
    "DELETE FROM delivery WHERE id IN"
    " (SELECT id FROM (SELECT id, received_at FROM delivery ORDER BY id LIMIT $2) AS oldest WHERE received_at < $1)"
)
_OF_RUNS = (
    "DELETE FROM effect_evidence WHERE effect_id IN (SELECT id FROM effect WHERE run_id = ANY($1::text[]))",
    "DELETE FROM approval_vote WHERE approval_id IN (SELECT id FROM approval WHERE run_id = ANY($1::text[]))",
    "DELETE FROM approval WHERE run_id = ANY($1::text[])",
    "DELETE FROM announcement WHERE run_id = ANY($1::text[])",
    "DELETE FROM effect WHERE run_id = ANY($1::text[])",
    "DELETE FROM run WHERE id = ANY($1::text[])",
)
_OLD = "SELECT 1 FROM audit WHERE sequence = $1 AND at < $2 AND EXISTS (SELECT 1 FROM audit WHERE sequence > $1)"


async def prune(transaction: Transaction, keep: float, most: int) -> Pruned:
    """Remove up to ``most`` of each kind, and one segment of the audit, that ended more than ``keep`` seconds ago."""
    before = await transaction.now() - keep
    runs = [row[0] for row in await transaction.all(_RUNS, before, most)]
    *_, effects, _ = [await transaction.run(sql, runs) for sql in _OF_RUNS] if runs else [0, 0]
    incidents = await transaction.run(_INCIDENTS, before, most)
    await transaction.run("DELETE FROM guard_state WHERE open = 0 AND since < $1", before)
    deliveries = await transaction.run(_DELIVERIES, before, most)
    removed = await _oldest(transaction, before)
    doubt = removed if isinstance(removed, str) else ""
    gone = removed if isinstance(removed, Segment) else None
    if gone is not None:
        await transaction.run("SELECT audit_remove($1, $2)", gone.last, gone.head)
    more = most in (len(runs), incidents, deliveries) or gone is not None
    done = Pruned(deliveries, len(runs), effects, incidents, SEGMENT if gone else 0, more, doubt)
    if done.anything:
        transaction.record(pruned(done, before, gone))
    return done


async def _oldest(transaction: Transaction, before: float) -> Segment | str | None:
    """The oldest segment if it may be removed now, why not if it is broken, or None."""
    row = await transaction.one("SELECT last, head FROM audit_segment ORDER BY last DESC LIMIT 1")
    gone = Gone(*row) if row else Gone()
    end = gone.last + SEGMENT
    # A record must follow: the end of the chain is what the next record, and every checkpoint, hangs on.
    if await transaction.one(_OLD, end, before) is None:
        return None
    sql = f"SELECT {AUDIT} FROM audit WHERE sequence BETWEEN $1 AND $2 ORDER BY sequence"  # noqa: S608
    records = [read_audit(row) for row in await transaction.all(sql, gone.last + 1, end)]
    return segment(records, gone, await transaction.now())
