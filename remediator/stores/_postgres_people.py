"""What people decide, in the PostgreSQL store: approvals (design D7), cancelling, and the kill switch."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.errors import NotFound
from remediator.run import Found, Run
from remediator.store import Approval, Pause
from remediator.stores import _people
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_session import Session, Transaction
from remediator.stores._postgres_write import add_runs, end_run, still_waits, write_run
from remediator.stores._rows import APPROVAL, RUN, read_approval, read_run

PAUSES: Name = ("pauses",)
"""Shared by every licence, alone for whoever pauses: no licence is given after the commit of a pause."""

_QUESTION = ",".join(f"a.{column}" for column in APPROVAL.split(","))
_NEWEST = (
    f"SELECT {_QUESTION}, v.actor, v.yes, v.comment, v.at FROM (SELECT * FROM approval WHERE run_id = $1"  # noqa: S608
    " ORDER BY ordinal DESC LIMIT 1) AS a LEFT JOIN approval_vote AS v ON v.approval_id = a.id ORDER BY v.at, v.actor"
)


async def newest_approval(session: Session, run_id: str) -> Approval | None:
    """The newest question of a run with its votes, or None."""
    rows = await session.all(_NEWEST, run_id)
    if not rows:
        return None
    return read_approval(rows[0], [row[9:] for row in rows if row[9] is not None])


async def _run(transaction: Transaction, run_id: str) -> Run:
    row = await transaction.one(f"SELECT {RUN} FROM run WHERE id = $1 FOR UPDATE", run_id)  # noqa: S608
    if row is None:
        raise NotFound(f'there is no run "{run_id}"')
    return read_run(row)


async def ask(
    transaction: Transaction, run: Run, approval: Approval, entries: Sequence[Entry], follow: Sequence[Run] = ()
) -> Run:
    """Hold the run and ask; an open question about other changes is superseded."""
    written = await write_run(transaction, await still_waits(transaction, run))
    await transaction.run("UPDATE approval SET state = 'superseded' WHERE run_id = $1 AND state = 'pending'", run.id)
    await transaction.run(
        f"INSERT INTO approval ({APPROVAL}) VALUES ($1,$2,$3,$4,'pending',$5,remediator_now(),$6,$7)",  # noqa: S608
        approval.id,
        run.id,
        approval.digest,
        canonical_json(list(approval.changes)),
        approval.needed,
        approval.expires_at,
        canonical_json(list(approval.barred)),
    )
    transaction.record(*entries)
    await add_runs(transaction, follow)
    return written


async def vote(transaction: Transaction, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
    """Count a person's answer; the last needed yes wakes the run, one no ends it."""
    # The row of the run is locked first, so that of many who answer at once each sees the answers before.
    run = await _run(transaction, run_id)
    now = await transaction.now()
    approval = _people.may_vote(run, await newest_approval(transaction, run_id), digest, actor, now, yes=yes)
    await transaction.run(
        "INSERT INTO approval_vote (approval_id, actor, yes, comment, at) VALUES ($1,$2,$3,$4,$5)",
        approval.id,
        actor,
        yes,
        comment,
        now,
    )
    transaction.record(_people.voted(run, approval, actor, yes, comment))
    if not yes:
        await _settle(transaction, approval, "rejected")
        transaction.wakes = True
        denied = await write_run(transaction, _people.rejected(run, actor, comment, now))
        await end_run(transaction, denied)
        return denied
    if _people.granted(approval, yes) < approval.needed:
        return run
    await _settle(transaction, approval, "granted")
    transaction.wakes = True
    return await write_run(transaction, _people.approved(run, actor, now))


async def _settle(transaction: Transaction, approval: Approval, state: str) -> None:
    await transaction.run("UPDATE approval SET state = $1 WHERE id = $2", state, approval.id)


async def cancel(transaction: Transaction, run_id: str, actor: str, comment: str, found: Found | None) -> Run:
    """Cancel what has not begun to act, or close what waits for a person."""
    run = await _run(transaction, run_id)
    acting = await transaction.one("SELECT 1 FROM effect WHERE run_id = $1 AND state = 'intent'", run_id) is not None
    moved, entry = _people.cancelled(run, acting, actor, comment, found, await transaction.now())
    await transaction.run("UPDATE approval SET state = 'cancelled' WHERE run_id = $1 AND state = 'pending'", run_id)
    transaction.record(entry)
    transaction.wakes = True
    written = await write_run(transaction, moved)
    await end_run(transaction, written)
    return written


async def acknowledge(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """A person takes over; nobody else is called."""
    run = await _run(transaction, run_id)
    moved, entry = _people.acknowledged(run, actor, comment, await transaction.now())
    transaction.record(entry)
    transaction.wakes = True
    return await write_run(transaction, moved)


async def retry(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """Queue a run that ended and changed nothing once more; what was granted before does not count."""
    # Rows are locked in the order of intake, the incident and then the run.
    ended = await transaction.one(
        "SELECT ended_at FROM incident WHERE id = (SELECT incident_id FROM run WHERE id = $1) FOR SHARE", run_id
    )
    run = await _run(transaction, run_id)
    acted = await transaction.one("SELECT 1 FROM effect WHERE run_id = $1 AND state <> 'failed'", run_id) is not None
    now = await transaction.now()
    moved, entry = _people.retried(run, ended[0] if ended else 0.0, acted, actor, comment, now)
    await transaction.run(
        "UPDATE approval SET state = 'superseded' WHERE run_id = $1 AND state IN ('pending','granted')", run_id
    )
    transaction.record(entry)
    transaction.wakes = True
    return await write_run(transaction, moved)


async def hasten(transaction: Transaction, run_id: str, actor: str, comment: str) -> Run:
    """Have a temporary change go back now."""
    run = await _run(transaction, run_id)
    moved, entry = _people.hastened(run, actor, comment, await transaction.now())
    transaction.record(entry)
    transaction.wakes = True
    return await write_run(transaction, moved)


async def all_pauses(session: Session) -> list[Pause]:
    """Every pause that was not resumed, also those whose time is over."""
    rows = await session.all("SELECT scope, reason, actor, since, until FROM pause ORDER BY scope")
    return [Pause(*row) for row in rows]


async def pause(transaction: Transaction, wanted: Pause) -> None:
    """Engage or replace a pause. What the replaced one held looks at the new one."""
    if await transaction.run("DELETE FROM pause WHERE scope = $1", wanted.scope):
        await _wake_paused(transaction)
    begun = _people.begun(wanted, await transaction.now())
    await transaction.run("INSERT INTO pause (scope, reason, actor, since, until) VALUES ($1,$2,$3,$4,$5)", *begun)
    transaction.record(_people.engaged(begun))


async def resume(transaction: Transaction, scope: str, actor: str, comment: str) -> None:
    """Release a pause and let the runs it held look again. Raises NotFound."""
    if not await transaction.run("DELETE FROM pause WHERE scope = $1", scope):
        raise NotFound(f'nothing is paused under "{scope}"')
    await _wake_paused(transaction)
    transaction.record(_people.released(scope, actor, comment))


async def _wake_paused(transaction: Transaction) -> None:
    transaction.wakes = True
    await transaction.run(
        "WITH paused AS (SELECT id FROM run WHERE state = 'held' AND reason = 'paused' AND wake_at > $1"
        " ORDER BY id FOR UPDATE) UPDATE run SET wake_at = $1 FROM paused WHERE run.id = paused.id",
        await transaction.now(),
    )
