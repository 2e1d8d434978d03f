"""What people decide, in the SQLite store: approvals (design D7), cancelling, and the kill switch."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.errors import Conflict, NotFound
from remediator.run import NOT_STARTED, Run, State
from remediator.store import Approval, Pause
from remediator.stores._rows import RUN, read_approval, read_run
from remediator.stores._sqlite_write import end_run, write_run
from remediator.stores._sqlite_writer import Transaction

_APPROVAL = "id,run_id,digest,changes,state,needed,requested_at,expires_at"


def newest_approval(connection: sqlite3.Connection, run_id: str) -> Approval | None:
    """The newest question of a run with its votes, or None."""
    row = connection.execute(
        f"SELECT {_APPROVAL} FROM approval WHERE run_id = ? ORDER BY id DESC LIMIT 1",  # noqa: S608
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


def ask(transaction: Transaction, run: Run, approval: Approval, entries: Sequence[Entry]) -> Run:
    """Hold the run and ask; an open question about other changes is superseded."""
    written = write_run(transaction, run)
    transaction.run("UPDATE approval SET state = 'superseded' WHERE run_id = ? AND state = 'pending'", run.id)
    transaction.run(
        f"INSERT INTO approval ({_APPROVAL}) VALUES (?,?,?,?,'pending',?,?,?)",  # noqa: S608
        approval.id,
        run.id,
        approval.digest,
        canonical_json(list(approval.changes)),
        approval.needed,
        transaction.now,
        approval.expires_at,
    )
    transaction.record(*entries)
    return written


def vote(transaction: Transaction, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
    """Count a person's answer; the last needed yes wakes the run, one no ends it."""
    run, approval, now = _run(transaction, run_id), newest_approval(transaction.connection, run_id), transaction.now
    if approval is None:
        raise Conflict(f"run {run_id} waits for no approval (it is {run.state})")
    if approval.state != "pending":
        raise Conflict(f"run {run_id}: the question is {approval.state}, not open")
    if approval.expires_at <= now:
        raise Conflict(f"run {run_id}: the question has expired")
    if digest != approval.digest:
        raise Conflict(f"run {run_id} now asks about other changes (digest {approval.digest}); look at them first")
    if run.state is not State.HELD:
        raise Conflict(f"run {run_id} is {run.state}")
    if any(vote["actor"] == actor for vote in approval.votes):
        raise Conflict(f"{actor} has already answered")
    transaction.run("INSERT INTO approval_vote VALUES (?,?,?,?,?)", approval.id, actor, int(yes), comment, now)
    granted = sum(bool(v["yes"]) for v in approval.votes) + 1 if yes else 0
    detail = {
        "approval": approval.id,
        "comment": comment,
        "digest": digest,
        "needed": approval.needed,
        "granted": granted,
    }
    if not yes:
        _settle(transaction, approval, "rejected")
        transaction.record(_by(run, "approval.rejected", actor, detail))
        denied = run.move(State.DENIED, "rejected", f"rejected by {actor}: {comment}", now=now)
        end_run(transaction, denied)
        return write_run(transaction, denied)
    transaction.record(_by(run, "approval.granted", actor, detail))
    if granted < approval.needed:
        return run
    _settle(transaction, approval, "granted")
    return write_run(transaction, run.move(State.HELD, "approved", f"approved by {actor}", now=now, wake_at=now))


def _settle(transaction: Transaction, approval: Approval, state: str) -> None:
    transaction.run("UPDATE approval SET state = ? WHERE id = ?", state, approval.id)


def cancel(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """Cancel what has not begun to act, or close what waits for a person."""
    run = _run(transaction, run_id)
    if run.state not in NOT_STARTED and run.state is not State.NEEDS_HUMAN:
        raise Conflict(f"run {run_id} is {run.state}; only queued, held and needs_human runs can be cancelled")
    if transaction.one("SELECT 1 FROM effect WHERE run_id = ? AND state = 'intent'", run_id):
        raise Conflict(f"run {run_id} is finding out what became of an effect; it cannot be cancelled now")
    transaction.run("UPDATE approval SET state = 'cancelled' WHERE run_id = ? AND state = 'pending'", run_id)
    message = f"cancelled by {actor}" + (f": {comment}" if comment else "")
    moved = run.move(State.CANCELLED, "by_person", message, now=transaction.now)
    detail: dict[str, object] = {"reason": "by_person", "message": message, "was": run.state.value}
    transaction.record(_by(run, "run.cancelled", actor, detail))
    end_run(transaction, moved)
    return write_run(transaction, moved)


def _by(run: Run, event: str, actor: str, detail: dict[str, object]) -> Entry:
    return Entry(event=event, actor=actor, run_id=run.id, rule=run.rule, rule_digest=run.rule_digest, detail=detail)


def all_pauses(connection: sqlite3.Connection) -> list[Pause]:
    """Every pause that was not resumed, also those whose time is over."""
    rows = connection.execute("SELECT scope, reason, actor, since, until FROM pause ORDER BY scope").fetchall()
    return [Pause(*row) for row in rows]


def pause(transaction: Transaction, wanted: Pause) -> list[Pause]:
    """Engage or replace a pause; all pauses there are now. What the replaced one held looks at the new one."""
    if transaction.run("DELETE FROM pause WHERE scope = ?", wanted.scope):
        _wake_paused(transaction)
    transaction.run(
        "INSERT INTO pause VALUES (?,?,?,?,?)",
        wanted.scope,
        wanted.reason,
        wanted.actor,
        transaction.now,
        wanted.until,
    )
    detail = {"scope": wanted.scope, "reason": wanted.reason, "until": wanted.until}
    transaction.record(Entry(event="pause.engaged", actor=wanted.actor, detail=detail))
    return all_pauses(transaction.connection)


def resume(transaction: Transaction, scope: str, actor: str, comment: str) -> list[Pause]:
    """Release a pause and let the runs it held look again; the pauses that are left."""
    if not transaction.run("DELETE FROM pause WHERE scope = ?", scope):
        raise NotFound(f'nothing is paused under "{scope}"')
    _wake_paused(transaction)
    transaction.record(Entry(event="pause.released", actor=actor, detail={"scope": scope, "reason": comment}))
    return all_pauses(transaction.connection)


def _wake_paused(transaction: Transaction) -> None:
    transaction.run(
        "UPDATE run SET wake_at = ? WHERE state = 'held' AND reason = 'paused' AND wake_at > ?",
        transaction.now,
        transaction.now,
    )
