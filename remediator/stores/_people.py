"""What people may decide and what their decisions mean, pure, so that every store decides alike (design D7)."""

from __future__ import annotations

from typing import NamedTuple

from remediator.audit import Entry
from remediator.errors import Conflict
from remediator.run import NOT_STARTED, Kind, Run, State
from remediator.store import Approval, Pause


def may_vote(run: Run, approval: Approval | None, digest: str, actor: str, now: float) -> Approval:
    """The open question that ``actor`` may answer now. Raises Conflict."""
    if approval is None:
        raise Conflict(f"run {run.id} waits for no approval (it is {run.state})")
    if approval.state != "pending":
        raise Conflict(f"run {run.id}: the question is {approval.state}, not open")
    if approval.expires_at <= now:
        raise Conflict(f"run {run.id}: the question has expired")
    if digest != approval.digest:
        raise Conflict(f"run {run.id} now asks about other changes (digest {approval.digest}); look at them first")
    if run.state is not State.HELD:
        raise Conflict(f"run {run.id} is {run.state}")
    if any(vote["actor"] == actor for vote in approval.votes):
        raise Conflict(f"{actor} has already answered")
    return approval


def granted(approval: Approval, yes: bool) -> int:
    """How many have said yes once this answer counts; 0 after a no, which ends the question."""
    return sum(bool(vote["yes"]) for vote in approval.votes) + 1 if yes else 0


def voted(run: Run, approval: Approval, actor: str, yes: bool, comment: str) -> Entry:
    """The record of an answer."""
    detail = {
        "approval": approval.id,
        "comment": comment,
        "digest": approval.digest,
        "needed": approval.needed,
        "granted": granted(approval, yes),
    }
    return _by(run, "approval.granted" if yes else "approval.rejected", actor, detail)


def rejected(run: Run, actor: str, comment: str, now: float) -> Run:
    """The run after a no."""
    return run.move(State.DENIED, "rejected", f"rejected by {actor}: {comment}", now=now)


def approved(run: Run, actor: str, now: float) -> Run:
    """The run after the last needed yes."""
    return run.move(State.HELD, "approved", f"approved by {actor}", now=now, wake_at=now)


class Cancelled(NamedTuple):
    """A cancelled run and its record."""

    run: Run
    entry: Entry


def cancelled(run: Run, acting: bool, actor: str, comment: str, now: float) -> Cancelled:
    """What cancelling does to ``run``; ``acting`` is whether a licence of it has no outcome yet. Raises Conflict."""
    if run.state not in NOT_STARTED and run.state is not State.NEEDS_HUMAN:
        raise Conflict(f"run {run.id} is {run.state}; only queued, held and needs_human runs can be cancelled")
    if acting:
        raise Conflict(f"run {run.id} is finding out what became of an effect; it cannot be cancelled now")
    message = f"cancelled by {actor}" + (f": {comment}" if comment else "")
    if run.progress.get("cleanup") and run.state is State.HELD:
        # It has acted, and what it must put back before it ends only its owner knows how to.
        progress = {**run.progress, "cancel": message}
        told = f"{message}; it puts back first what it must"
        asked = run.move(State.HELD, "by_person", told, now=now, wake_at=now, progress=progress)
        return Cancelled(asked, _by(run, "cancel.requested", actor, {"message": message, "was": run.state.value}))
    moved = run.move(State.CANCELLED, "by_person", message, now=now)
    detail: dict[str, object] = {"reason": "by_person", "message": message, "was": run.state.value}
    return Cancelled(moved, _by(run, "run.cancelled", actor, detail))


def hastened(run: Run, actor: str, comment: str, now: float) -> Cancelled:
    """What it means for a temporary change that it shall go back now. Raises Conflict."""
    if run.kind is not Kind.REVERT:
        raise Conflict(f"run {run.id} is no temporary change")
    if run.state is not State.HELD:
        raise Conflict(f"run {run.id} is {run.state}; only a change that is in force can be put back")
    asked = {"actor": actor, "at": now, "comment": comment}
    message = f"{actor} put it back" + (f": {comment}" if comment else "")
    moved = run.move(
        State.HELD, run.reason, message, now=now, wake_at=now, progress={**run.progress, "asked": asked}
    )
    return Cancelled(moved, _by(run, "change.revert_requested", actor, {"comment": comment, "change": run.about}))


def begun(wanted: Pause, now: float) -> Pause:
    """``wanted`` as it begins now, by the store's clock: it lasts as long as was asked for, whatever clock asked."""
    until = None if wanted.until is None else now + (wanted.until - wanted.since)
    return wanted._replace(since=now, until=until)


def engaged(pause: Pause) -> Entry:
    """The record of a pause."""
    detail = {"scope": pause.scope, "reason": pause.reason, "until": pause.until}
    return Entry(event="pause.engaged", actor=pause.actor, detail=detail)


def released(scope: str, actor: str, comment: str) -> Entry:
    """The record of the end of a pause."""
    return Entry(event="pause.released", actor=actor, detail={"scope": scope, "reason": comment})


def _by(run: Run, event: str, actor: str, detail: dict[str, object]) -> Entry:
    return Entry(event=event, actor=actor, run_id=run.id, rule=run.rule, rule_digest=run.rule_digest, detail=detail)
