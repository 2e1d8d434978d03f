"""Fences and guards of the core, each taken away on purpose: a simulation is worth what it catches of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from remediator import acting, arrival, line, worker
from remediator.action import ActionContext, Effect
from remediator.asking import Asking
from remediator.audit import Entry
from remediator.guards.cooldown import Cooldown
from remediator.guards.rate_limit import RateLimit
from remediator.incident import Member
from remediator.rule import Mode
from remediator.run import Run
from remediator.stores import _decide, _sqlite_intake, _sqlite_people, _sqlite_runs, _sqlite_write
from remediator.stores._sqlite_writer import Transaction


class Mutation(NamedTuple):
    """Something of the core that is replaced."""

    where: Any
    name: str
    by: Any


def _unfenced(transaction: Transaction, run: Run) -> Run:
    """``write_run`` that believes everybody."""
    epoch, version = transaction.one("SELECT epoch, version FROM run WHERE id = ?", run.id)
    return _sqlite_write_run(transaction, replace(run, epoch=epoch, version=version))


_sqlite_write_run = _sqlite_write.write_run
_record = Transaction.record


def _shortening(transaction: Transaction, run: Run) -> Run:
    """``write_run`` that writes the lease of the claim, as it did once."""
    written = _sqlite_write_run(transaction, run)
    transaction.run("UPDATE run SET lease_until = ? WHERE id = ?", run.lease_until, run.id)
    return written


def _without_intent(transaction: Transaction, *entries: Entry) -> None:
    _record(transaction, *(entry for entry in entries if entry.event != "effect.intent"))


def _everywhere(by: Callable[..., Any]) -> tuple[Mutation, ...]:
    stores = (_sqlite_runs, _sqlite_people, _sqlite_intake)
    return tuple(Mutation(store, "write_run", by) for store in stores)


def _nothing(*_: object, **__: object) -> None:
    """A check that never objects."""


def _first_start(member: Member, start: float, tolerance: float) -> bool:
    """What an alert's fingerprint with its startsAt would say: that another start is another life."""
    return member.min_start == start


MUTANTS: Mapping[str, tuple[Mutation, ...]] = {
    "writes are not fenced by epoch and version": _everywhere(_unfenced),
    "a write shortens a renewed lease": _everywhere(_shortening),
    "the licence does not read the pauses": (Mutation(_decide, "paused", _nothing),),
    "the licence does not read the incident": (Mutation(_decide, "gone", _nothing),),
    "the licence does not read the approval": (
        Mutation(_decide, "approved", _nothing),
        Mutation(Asking, "_granted", lambda it, approval, ready: approval is not None),
    ),
    "a yes to one change is a yes to every change": (
        Mutation(_decide, "_same", lambda change, request: True),
        Mutation(
            Asking, "_granted", lambda it, approval, ready: approval is not None and approval.state == "granted"
        ),
    ),
    "effects begin after the deadline": (Mutation(ActionContext, "check_deadline", _nothing),),
    "the deadline is longer than the lease": (Mutation(worker, "_SAFE", 4.0),),
    "once is tried again": (Mutation(acting, "_REPEATABLE", tuple(Effect)),),
    "locks are ignored": (Mutation(_decide, "busy", lambda locks, active: False),),
    "cooldowns are not counted": (Mutation(Cooldown, "limits", lambda guard, context: ()),),
    "rate limits are not counted": (Mutation(RateLimit, "limits", lambda guard, context: ()),),
    "a start is an identity": (Mutation(Member, "holds", _first_start),),
    "every notice opens an incident": (Mutation(arrival, "HISTORY", 0),),
    "observe acts": (Mutation(line, "effective_mode", lambda rule, most: Mode.AUTO),),
    "the intent is not recorded": (Mutation(Transaction, "record", _without_intent),),
    "an open licence keeps no locks": (
        Mutation(_sqlite_runs, "_HOLDING", "SELECT id, locks, state, lease_until FROM run WHERE state = 'running'"),
    ),
    "an open effect is looked for at once": (Mutation(acting, "_quiet", lambda it, effect: True),),
}
"""What is taken away, and how."""
