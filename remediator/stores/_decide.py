"""Decisions that every store makes inside its transactions, written once: claims, locks, limits, pauses, ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.audit import Entry
from remediator.clock import format_duration
from remediator.guard import Limit
from remediator.run import Kind, Lock, Run, State
from remediator.store import Approval, LicenceRequest, Pause, Refusal

RECHECK = 15.0
"""When a hold has no known end, it is looked at again after this many seconds."""

OUTCOME_STATES = frozenset(("done", "failed", "unknown"))


def busy(locks: Sequence[Lock], active: Iterable[Lock]) -> bool:
    """Whether as many running runs as allowed already hold one of ``locks``."""
    held = list(active)
    return any(sum(other.overlaps(lock) for other in held) >= lock.most for lock in locks)


_CLAIMED = {"queued": "run.started", "held": "run.resumed", "running": "run.recovered"}


def claimed(run: Run, was: str) -> Entry | None:
    """The record of a claim of a run that was in state ``was``; a look at a verifying run leaves none."""
    event = _CLAIMED.get(was)
    return None if event is None else _of(run, event, {"epoch": run.epoch, "owner": run.owner})


_FOLLOWED = {Kind.REVERT: "change.in_force", Kind.ESCALATION: "escalation.begun"}


def followed(run: Run) -> Entry:
    """The record of a run that follows from another one."""
    detail = {"about": run.about, "due_at": run.due_at, "message": run.message, "state": run.state.value}
    return _of(run, _FOLLOWED[run.kind], detail | {"change": run.progress.get("change")})


def ended(run: Run, why: str, now: float) -> tuple[Run, Entry]:
    """A run that has not begun, cancelled because its incident ended (``resolved``, ``superseded``), and the record."""
    message = f"the incident ended ({why}) before the run began to act"
    detail = {"reason": why, "message": message, "was": run.state.value}
    return run.move(State.CANCELLED, why, message, now=now), _of(run, "run.cancelled", detail)


def _of(run: Run, event: str, detail: Mapping[str, Any]) -> Entry:
    return Entry(
        event=event, actor="remediator", run_id=run.id, rule=run.rule, rule_digest=run.rule_digest, detail=detail
    )


def paused(pauses: Iterable[Pause], run: Run, now: float) -> Refusal | None:
    """The refusal of a pause in force for ``run``."""
    scopes = {"global", f"rule:{run.rule}", *(f"target:{name}" for name in run.targets)}
    for pause in pauses:
        if pause.scope in scopes and (pause.until is None or pause.until > now):
            return Refusal("hold", "paused", f"paused ({pause.scope}) by {pause.actor}: {pause.reason}", pause.until)
    return None


def refused(request: LicenceRequest, ended_at: float | None, pauses: Iterable[Pause], now: float) -> Refusal | None:
    """The refusal by the incident's end or by a pause.

    What cleans up is done also when the alert is gone. A pause holds whatever acts, but never silences a call for help.
    """
    held = None if request.run.kind is Kind.ESCALATION else paused(pauses, request.run, now)
    return held or (None if request.closing else gone(ended_at))


def gone(ended_at: float | None) -> Refusal | None:
    """The refusal for an incident that has ended."""
    if ended_at is None:
        return None
    return Refusal("cancel", "resolved", "the alert resolved before this effect began")


def waits(run: Run, was: str, woken: bool, ended_at: float | None, acting: bool, *, now: float) -> Run:
    """``run`` as it goes to wait (held or verifying), due at once if its incident ended while it was with its owner.

    ``was`` is its state in the store, ``woken`` whether it was made due after its owner last wrote it, ``acting``
    whether another licence of it has no outcome yet: such a run waits for its target, not for its alert. An owner that
    knew of the end (``ended`` in the progress) has thought of it already.
    """
    if ended_at is None or acting or run.progress.get("ended") or not (was == "running" or woken):
        return run
    return replace(run, wake_at=min(now, run.wake_at))


def still_paused(run: Run, pauses: Iterable[Pause], now: float) -> Run:
    """``run`` as it goes to wait for the end of a pause; due at once if that has come since its owner looked."""
    return run if paused(pauses, run, now) is not None else replace(run, wake_at=min(now, run.wake_at))


def waits_for_resume(run: Run) -> bool:
    """Whether ``run`` goes to wait for the end of a pause, of which nobody would tell it a second time."""
    return run.state is State.HELD and run.reason == "paused"


def over_limit(limit: Limit, count: int, until: float | None) -> Refusal | None:
    """The refusal of one limit, given how many other runs count and when the count will have fallen."""
    if count < limit.runs:
        return None
    window = format_duration(limit.window)
    if limit.since == "end":
        message = f"another run of this {limit.scope} ended less than {window} ago or still goes on"
    else:
        message = f"{count} runs of this {limit.scope} were licensed within {window}; at most {limit.runs} may be"
    return Refusal("hold", limit.guard, message, until)


def scope_value(limit: Limit, rule: str, incident_key: str, target: str) -> tuple[str, str]:
    """Column of the ledger and its value for a limit's scope; an empty column means every row.

    ``service`` is no column: it stands for the rules that the limit names.
    """
    if limit.scope == "service":
        return "service", limit.service
    columns = {"rule": ("rule", rule), "incident": ("incident_key", incident_key), "target": ("target", target)}
    return columns.get(limit.scope, ("", ""))


def approved(request: LicenceRequest, approval: Approval | None, now: float) -> Refusal | None:
    """The refusal when a person must have granted exactly this change and has not."""
    if not request.approval:
        return None
    if approval is None or approval.state != "granted" or not (request.under_way or approval.expires_at > now):
        return Refusal("hold", "approval", "nobody has granted this change")
    if not any(_same(change, request) for change in approval.changes):
        return Refusal("hold", "approval", "what was granted is not what would be done now")
    return None


def _same(change: Mapping[str, Any], request: LicenceRequest) -> bool:
    return bool(change.get("step") == request.step and change.get("digest") == request.approval)
