"""What people may decide and what their decisions mean, pure, so that every store decides alike (design D7)."""

from __future__ import annotations

from typing import NamedTuple

from remediator.audit import Entry
from remediator.errors import Conflict
from remediator.run import NOT_STARTED, Found, Kind, Run, State
from remediator.store import Approval, Pause


def may_vote(
    run: Run, approval: Approval | None, digest: str, actor: str, now: float, *, yes: bool
) -> Approval:
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
    if yes and actor in approval.barred:
        raise Conflict(f"{actor} owns this rule, whose approval asks for four eyes: somebody else must say yes")
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
    if yes:
        return _by(run, "approval.granted", actor, detail)
    left = State.HELD if run.progress.get("cleanup") else State.DENIED
    return _by(run, "approval.rejected", actor, detail | {"state": left.value})


def rejected(run: Run, actor: str, comment: str, now: float) -> Run:
    """The run after a no; one that has acted is asked to end, and puts in order first what it must."""
    message = f"rejected by {actor}: {comment}"
    if run.progress.get("cleanup"):
        return _asked(run, State.DENIED, "rejected", message, now)
    return run.move(State.DENIED, "rejected", f"rejected by {actor}: {comment}", now=now)


def approved(run: Run, actor: str, now: float) -> Run:
    """The run after the last needed yes."""
    return run.move(State.HELD, "approved", f"approved by {actor}", now=now, wake_at=now)


def _asked(run: Run, to: State, reason: str, message: str, now: float) -> Run:
    """A run that shall end so, and knows what it must put in order before."""
    progress = {**run.progress, "cancel": {"to": to.value, "reason": reason, "message": message}}
    told = f"{message}; it puts back first what it must"
    return run.move(State.HELD, reason, told, now=now, wake_at=now, progress=progress)


class Cancelled(NamedTuple):
    """A cancelled run and its record."""

    run: Run
    entry: Entry


def cancelled(run: Run, acting: bool, actor: str, comment: str, found: Found | None, now: float) -> Cancelled:
    """What cancelling does to ``run``; ``acting`` is whether a licence of it has no outcome yet. Raises Conflict."""
    if found is not None:
        return _settled(run, actor, comment, found, now)
    if run.state not in NOT_STARTED and run.state is not State.NEEDS_HUMAN:
        raise Conflict(f"run {run.id} is {run.state}; only queued, held and needs_human runs can be cancelled")
    if acting:
        raise Conflict(f"run {run.id} is finding out what became of an effect; it cannot be cancelled now")
    message = f"cancelled by {actor}" + (f": {comment}" if comment else "")
    if run.progress.get("cleanup") and run.state is State.HELD:
        # It has acted, and what it must put back before it ends only its owner knows how to.
        asked = _asked(run, State.CANCELLED, "by_person", message, now)
        return Cancelled(asked, _by(run, "cancel.requested", actor, {"message": message, "was": run.state.value}))
    reason = "by_person"
    if run.kind is Kind.REVERT:
        # Without its way back a change that was temporary stays for good.
        reason, message = "kept", f"made permanent by {actor}" + (f": {comment}" if comment else "")
    moved = run.move(State.CANCELLED, reason, message, now=now)
    detail: dict[str, object] = {"reason": reason, "message": message, "was": run.state.value}
    return Cancelled(moved, _by(run, "run.cancelled", actor, detail))


def _settled(run: Run, actor: str, comment: str, found: Found, now: float) -> Cancelled:
    """What it means that a person found out what became of the effect. Raises Conflict."""
    if run.state is not State.NEEDS_HUMAN:
        raise Conflict(f"run {run.id} is {run.state}; what happened is only asked of a run that needs_human")
    if not comment:
        raise Conflict("write a comment that says where it was seen; it is kept in the audit")
    to = State.SUCCEEDED if found is Found.HAPPENED else State.FAILED
    what = "it happened" if found is Found.HAPPENED else "it did not happen"
    reason, message = f"found_{found.value}", f"{actor} found that {what}: {comment}"
    moved = run.move(to, reason, message, now=now)
    detail: dict[str, object] = {"reason": reason, "message": message, "was": run.state.value, "found": found.value}
    return Cancelled(moved, _by(run, f"run.{to.value}", actor, detail))


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


def acknowledged(run: Run, actor: str, comment: str, now: float) -> Cancelled:
    """What it means for an escalation that a person takes over: nobody else is called. Raises Conflict."""
    if run.kind is not Kind.ESCALATION:
        raise Conflict(f"run {run.id} calls nobody")
    if "acknowledged" in run.progress:
        raise Conflict(f"{run.progress['acknowledged']['actor']} has taken over already")
    if run.state is not State.HELD:
        what = "is calling somebody just now; try again" if run.live else f"is {run.state}"
        raise Conflict(f"run {run.id} {what}")
    taken = {"actor": actor, "at": now, "comment": comment}
    message = f"{actor} has taken over" + (f": {comment}" if comment else "")
    progress = {**run.progress, "acknowledged": taken}
    moved = run.move(State.HELD, run.reason, message, now=now, wake_at=now, progress=progress)
    return Cancelled(moved, _by(run, "escalation.acknowledged", actor, {"comment": comment, "about": run.about}))


RETRIED = frozenset((State.FAILED, State.DENIED, State.EXPIRED))
"""Ends after which a run that changed nothing may be tried again."""


def retried(run: Run, ended_at: float | None, acted: bool, actor: str, comment: str, now: float) -> Cancelled:
    """What it means that a run shall be tried again. Raises Conflict.

    ``acted`` is whether a licence of it may have had an effect: then nothing is repeated, for nobody knows what a
    second time would mean. It begins anew, with new evidence, and keeps how it ended before.
    """
    if run.kind is not Kind.REMEDY or run.state not in RETRIED:
        raise Conflict(f"run {run.id} is {run.state}; only failed, denied and expired runs can be tried again")
    if acted:
        raise Conflict(f"run {run.id} has acted, and what was done is not repeated; look at it, and act by hand")
    if ended_at is not None:
        raise Conflict(f"run {run.id}: its alert has resolved, so there is nothing to try")
    how = {"state": run.state.value, "reason": run.reason, "message": run.message, "at": run.updated_at}
    progress = {"before": [*run.progress.get("before", ())[-9:], how]}
    message = f"{actor} asked to try again" + (f": {comment}" if comment else "")
    moved = run.move(State.QUEUED, "retried", message, now=now, wake_at=now, progress=progress, tries=0)
    detail: dict[str, object] = {"comment": comment, "message": message, "was": run.state.value, "before": how}
    return Cancelled(moved, _by(run, "run.retry_requested", actor, detail))


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
