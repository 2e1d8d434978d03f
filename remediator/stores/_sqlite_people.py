"""What people decide, in the SQLite store: approvals (design D7), cancelling, and the kill switch."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.errors import NotFound
from remediator.run import Found, Run
from remediator.store import Approval, Pause
from remediator.stores import _people
from remediator.stores._rows import APPROVAL, RUN, read_approval, read_run
from remediator.stores._sqlite_write import add_runs, end_run, still_waits, write_run
from remediator.stores._sqlite_writer import Transaction


def newest_approval(connection: sqlite3.Connection, run_id: str) -> Approval | None:
    """The newest question of a run with its votes, or None."""
    row = connection.execute(
        f"SELECT {APPROVAL} FROM approval WHERE run_id = ? ORDER BY requested_at DESC, id DESC LIMIT 1",  # noqa: S608
        (run_id,),
    ).fetchone()
    if row is None:
        return None
    votes = connection.execute(
        "SELECT actor, yes, comment, at FROM approval_vote WHERE approval_id = ? ORDER BY at", (row[0],)
    ).fetchall()
    return read_approval(row, votes)


def _run(transaction: Transaction, run_id: str) -> Run:
    row = transaction.one(f"SELECT {RUN} FROM run WHERE id = ?", run_id)  # noqa: S608
    if row is None:
        raise NotFound(f'there is no run "{run_id}"')
    return read_run(row)


def ask(
    transaction: Transaction, run: Run, approval: Approval, entries: Sequence[Entry], follow: Sequence[Run] = ()
) -> Run:
    """Hold the run and ask; an open question about other changes is superseded."""
    written = write_run(transaction, still_waits(transaction, run))
    transaction.run("UPDATE approval SET state = 'superseded' WHERE run_id = ? AND state = 'pending'", run.id)
    transaction.run(
        f"INSERT INTO approval ({APPROVAL}) VALUES (?,?,?,?,'pending',?,?,?,?)",  # noqa: S608
        approval.id,
        run.id,
        approval.digest,
        canonical_json(list(approval.changes)),
        approval.needed,
        transaction.now,
        approval.expires_at,
        canonical_json(list(approval.barred)),
    )
    transaction.record(*entries)
    add_runs(transaction, follow)
    return written


def vote(transaction: Transaction, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
    """Count a person's answer; the last needed yes wakes the run, one no ends it."""
    run, approval, now = _run(transaction, run_id), newest_approval(transaction.connection, run_id), transaction.now
    approval = _people.may_vote(run, approval, digest, actor, now, yes=yes)
    transaction.run("INSERT INTO approval_vote VALUES (?,?,?,?,?)", approval.id, actor, int(yes), comment, now)
    granted = _people.granted(approval, yes)
    transaction.record(_people.voted(run, approval, actor, yes, comment))
    if not yes:
        _settle(transaction, approval, "rejected")
        denied = _people.rejected(run, actor, comment, now)
        end_run(transaction, denied)
        return write_run(transaction, denied)
    if granted < approval.needed:
        return run
    _settle(transaction, approval, "granted")
    return write_run(transaction, _people.approved(run, actor, now))


def _settle(transaction: Transaction, approval: Approval, state: str) -> None:
    transaction.run("UPDATE approval SET state = ? WHERE id = ?", state, approval.id)


def cancel(transaction: Transaction, run_id: str, actor: str, comment: str, found: Found | None) -> Run:
    """Cancel what has not begun to act, or close what waits for a person."""
    run = _run(transaction, run_id)
    acting = transaction.one("SELECT 1 FROM effect WHERE run_id = ? AND state = 'intent'", run_id) is not None
    moved, entry = _people.cancelled(run, acting, actor, comment, found, transaction.now)
    transaction.run("UPDATE approval SET state = 'cancelled' WHERE run_id = ? AND state = 'pending'", run_id)
    transaction.record(entry)
    end_run(transaction, moved)
    return write_run(transaction, moved)


def retry(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """Queue a run that ended and changed nothing once more; what was granted before does not count."""
    run = _run(transaction, run_id)
    ended = transaction.one("SELECT ended_at FROM incident WHERE id = ?", run.incident_id)
    acted = transaction.one("SELECT 1 FROM effect WHERE run_id = ? AND state <> 'failed'", run_id) is not None
    moved, entry = _people.retried(run, ended[0] if ended else 0.0, acted, actor, comment, transaction.now)
    transaction.run(
        "UPDATE approval SET state = 'superseded' WHERE run_id = ? AND state IN ('pending','granted')", run_id
    )
    transaction.record(entry)
    return write_run(transaction, moved)


def hasten(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """Have a temporary change go back now."""
    moved, entry = _people.hastened(_run(transaction, run_id), actor, comment, transaction.now)
    transaction.record(entry)
    return write_run(transaction, moved)


def acknowledge(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """A person takes over; nobody else is called."""
    moved, entry = _people.acknowledged(_run(transaction, run_id), actor, comment, transaction.now)
    transaction.record(entry)
    return write_run(transaction, moved)


def all_pauses(connection: sqlite3.Connection) -> list[Pause]:
    """Every pause that was not resumed, also those whose time is over."""
    rows = connection.execute("SELECT scope, reason, actor, since, until FROM pause ORDER BY scope").fetchall()
    return [Pause(*row) for row in rows]


def pause(transaction: Transaction, wanted: Pause) -> list[Pause]:
    """Engage or replace a pause; all pauses there are now. What the replaced one held looks at the new one."""
    if transaction.run("DELETE FROM pause WHERE scope = ?", wanted.scope):
        _wake_paused(transaction)
    begun = _people.begun(wanted, transaction.now)
    transaction.run("INSERT INTO pause (scope, reason, actor, since, until) VALUES (?,?,?,?,?)", *begun)
    transaction.record(_people.engaged(begun))
    return all_pauses(transaction.connection)


def resume(transaction: Transaction, scope: str, actor: str, comment: str) -> list[Pause]:
    """Release a pause and let the runs it held look again; the pauses that are left."""
    if not transaction.run("DELETE FROM pause WHERE scope = ?", scope):
        raise NotFound(f'nothing is paused under "{scope}"')
    _wake_paused(transaction)
    transaction.record(_people.released(scope, actor, comment))
    return all_pauses(transaction.connection)


def _wake_paused(transaction: Transaction) -> None:
    transaction.run(
        "UPDATE run SET wake_at = ? WHERE state = 'held' AND reason = 'paused' AND wake_at > ?",
        transaction.now,
        transaction.now,
    )
