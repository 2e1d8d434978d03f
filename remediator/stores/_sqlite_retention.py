"""The transaction of the SQLite store that removes what is older than the settings keep: a little at a time."""

from __future__ import annotations

import json

from remediator.store import Pruned
from remediator.stores._retention import ENDED, SEGMENT, Gone, Segment, pruned, segment
from remediator.stores._rows import AUDIT, read_audit
from remediator.stores._sqlite_writer import Transaction

_RUNS = (
    f"SELECT id FROM run INDEXED BY run_over WHERE {ENDED} AND updated_at < ?"  # noqa: S608
    " AND NOT EXISTS (SELECT 1 FROM effect WHERE run_id = run.id AND (over_at IS NULL OR over_at >= ?))"
    " ORDER BY updated_at LIMIT ?"
)
_INCIDENTS = (
    "DELETE FROM incident WHERE id IN (SELECT id FROM incident AS i INDEXED BY incident_over"
    " WHERE ended_at IS NOT NULL AND ended_at < ? AND seen_at < ?"
    " AND NOT EXISTS (SELECT 1 FROM run WHERE incident_id = i.id) ORDER BY ended_at LIMIT ?)"
)
_DELIVERIES = (
    "DELETE FROM delivery WHERE id IN"
    " (SELECT id FROM (SELECT id, received_at FROM delivery ORDER BY id LIMIT ?) WHERE received_at < ?)"
)
_RUN_IDS = "SELECT value FROM json_each(?)"
_OF_RUNS = (
    f"DELETE FROM effect_evidence WHERE effect_id IN (SELECT id FROM effect WHERE run_id IN ({_RUN_IDS}))",  # noqa: S608
    f"DELETE FROM approval_vote WHERE approval_id IN (SELECT id FROM approval WHERE run_id IN ({_RUN_IDS}))",  # noqa: S608
    f"DELETE FROM approval WHERE run_id IN ({_RUN_IDS})",  # noqa: S608
    f"DELETE FROM announcement WHERE run_id IN ({_RUN_IDS})",  # noqa: S608
    f"DELETE FROM effect WHERE run_id IN ({_RUN_IDS})",  # noqa: S608
    f"DELETE FROM run WHERE id IN ({_RUN_IDS})",  # noqa: S608
)


def prune(transaction: Transaction, keep: float, most: int) -> Pruned:
    """Remove up to ``most`` of each kind, and one segment of the audit, that ended more than ``keep`` seconds ago."""
    before = transaction.now - keep
    runs = [row[0] for row in transaction.all(_RUNS, before, before, most)]
    *_, effects, _ = [transaction.run(sql, json.dumps(runs)) for sql in _OF_RUNS] if runs else [0, 0]
    incidents = transaction.run(_INCIDENTS, before, before, most)
    transaction.run("DELETE FROM guard_state WHERE open = 0 AND since < ?", before)
    deliveries = transaction.run(_DELIVERIES, most, before)
    removed = _oldest(transaction, before)
    doubt = removed if isinstance(removed, str) else ""
    gone = removed if isinstance(removed, Segment) else None
    if gone is not None:
        transaction.run("INSERT INTO audit_segment (last,first,head,sealed_at,removed_at) VALUES (?,?,?,?,?)", *gone)
        transaction.run("DELETE FROM audit WHERE sequence BETWEEN ? AND ?", gone.first, gone.last)
    more = most in (len(runs), incidents, deliveries) or gone is not None
    done = Pruned(deliveries, len(runs), effects, incidents, SEGMENT if gone else 0, more, doubt)
    if done.anything:
        transaction.record(pruned(done, before, gone))
    return done


def _oldest(transaction: Transaction, before: float) -> Segment | str | None:
    """The oldest segment if it may be removed now, why not if it is broken, or None."""
    row = transaction.one("SELECT last, head FROM audit_segment ORDER BY last DESC LIMIT 1")
    gone = Gone(*row) if row else Gone()
    end = gone.last + SEGMENT
    # A record must follow: the end of the chain is what the next record, and every checkpoint, hangs on.
    old = transaction.one(
        "SELECT 1 FROM audit WHERE sequence = ? AND at < ? AND EXISTS (SELECT 1 FROM audit WHERE sequence > ?)",
        end,
        before,
        end,
    )
    if old is None:
        return None
    sql = f"SELECT {AUDIT} FROM audit WHERE sequence BETWEEN ? AND ? ORDER BY sequence"  # noqa: S608
    records = [read_audit(row) for row in transaction.all(sql, gone.last + 1, end)]
    return segment(records, gone, transaction.now)
