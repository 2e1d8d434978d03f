"""The transactions of a run's life in the SQLite store: claim (D2), licence and outcome (D3), limits (D5)."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.errors import Lost, NotFound
from remediator.guard import Limit
from remediator.ids import Ids
from remediator.run import Lock, Run
from remediator.store import Claim, EffectRow, Licence, LicenceRequest, Refusal
from remediator.stores import _decide, _sqlite_money
from remediator.stores._rows import (
    EFFECT,
    INCIDENT,
    RUN,
    read_effect,
    read_incident,
    read_locks,
    read_run,
)
from remediator.stores._sqlite_facts import announce
from remediator.stores._sqlite_people import all_pauses, newest_approval
from remediator.stores._sqlite_write import add_runs, end_run, moved_on, still_waits, write_run
from remediator.stores._sqlite_writer import Transaction

_PAGE = 64
_HOLDING = (
    "SELECT id, locks, state, lease_until FROM run INDEXED BY run_running WHERE state = 'running'"
    " UNION SELECT run.id, locks, run.state, wake_at FROM effect INDEXED BY effect_open CROSS JOIN run"
    " ON run.id = effect.run_id WHERE effect.state = 'intent' AND run.state IN ('queued','held')"
)
"""Runs that hold their locks, and when each may be taken on: those that run, and those whose licence has no outcome."""


def free_all(transaction: Transaction) -> None:
    """End every lease: called when the file was locked, which proves that no earlier owner lives."""
    transaction.run("UPDATE run SET lease_until = 0 WHERE state IN ('running','verifying') AND lease_until > 0")


def claim(transaction: Transaction, owner: str, lease: float, most: int) -> list[Claim]:
    """Take up to ``most`` due runs whose locks are free, those that waited longest first."""
    chosen = _choose(transaction, most)
    if not chosen:
        return []
    ids = json.dumps(list(chosen))
    rows = transaction.all(
        "UPDATE run SET epoch = epoch + 1, version = version + 1, owner = ?, lease_until = ?, updated_at = ?,"  # noqa: S608
        " tries = tries + (state = 'running'), state = CASE state WHEN 'verifying' THEN 'verifying' ELSE 'running' END"
        f" WHERE id IN (SELECT value FROM json_each(?)) RETURNING {RUN}",
        owner,
        transaction.now + lease,
        transaction.now,
        ids,
    )
    runs = [read_run(row) for row in rows]
    for run in runs:
        entry = _decide.claimed(run, chosen[run.id])
        if entry is not None:
            transaction.record(entry)
    return _with_context(transaction, runs, ids)


def _choose(transaction: Transaction, most: int) -> dict[str, str]:
    now, chosen = transaction.now, dict[str, str]()
    active: list[Lock] = []
    for run_id, locks, state, until in transaction.all(_HOLDING):
        active += read_locks(locks)
        # A dead owner's run is taken over with the locks it holds; so is one that waits to learn what it has done.
        if until <= now and len(chosen) < most:
            chosen[run_id] = state
    full: list[str] = []
    while len(chosen) < most:
        page = min(_PAGE, most - len(chosen))
        rows = transaction.all(
            # Said aloud, because SQLite would sort every waiting run by its state's index instead.
            "SELECT id, locks, state FROM run INDEXED BY run_due"
            " WHERE state IN ('queued','held','verifying') AND wake_at <= ?"
            " AND lease_until <= ? AND locks NOT IN (SELECT value FROM json_each(?))"
            " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY wake_at, id LIMIT ?",
            now,
            now,
            json.dumps(full),
            json.dumps(list(chosen)),
            page,
        )
        for run_id, text, state in rows:
            locks = read_locks(text)
            if state == "verifying":
                chosen[run_id] = state
            elif _decide.busy(locks, active):
                full.append(text)
            else:
                chosen[run_id] = state
                active += locks
        if len(rows) < page:
            break
    return chosen


def _with_context(transaction: Transaction, runs: Sequence[Run], ids: str) -> list[Claim]:
    incident_ids = json.dumps([run.incident_id for run in runs])
    rows = transaction.all(
        f"SELECT {INCIDENT} FROM incident WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608
        incident_ids,
    )
    incidents = {row[0]: read_incident(row) for row in rows}
    effects: dict[str, list[EffectRow]] = defaultdict(list)
    if any(run.epoch > 1 for run in runs):  # Whoever is the first owner finds no licences of another one.
        for row in transaction.all(
            f"SELECT {EFFECT} FROM effect WHERE run_id IN (SELECT value FROM json_each(?))"  # noqa: S608
            " ORDER BY licensed_at, id",
            ids,
        ):
            effects[row[1]].append(read_effect(row))
    runs = sorted(runs, key=lambda run: (run.wake_at, run.id))
    return [Claim(run, incidents[run.incident_id], tuple(effects[run.id])) for run in runs]


def renew(transaction: Transaction, runs: Sequence[Run], lease: float) -> Collection[str]:
    """Lengthen leases by id and epoch; ids that are no longer held so are lost."""
    lost = set()
    for run in runs:
        changed = transaction.run(
            "UPDATE run SET lease_until = ? WHERE id = ? AND epoch = ? AND owner = ?",
            transaction.now + lease,
            run.id,
            run.epoch,
            run.owner,
        )
        if not changed:
            lost.add(run.id)
    return lost


def save(transaction: Transaction, run: Run, entries: Sequence[Entry], follow: Sequence[Run] = ()) -> Run:
    """Write a moved run, if this owner still has it, with what follows from it, and record."""
    if _decide.waits_for_resume(run):
        run = _decide.still_paused(run, all_pauses(transaction.connection), transaction.now)
    written = write_run(transaction, still_waits(transaction, run))
    end_run(transaction, run)
    transaction.record(*entries)
    add_runs(transaction, follow)
    return written


def licence(transaction: Transaction, request: LicenceRequest, ids: Ids) -> Licence | Refusal:
    """Everything that must hold at the moment of the permission, then the intent; a refusal writes nothing."""
    run, now = request.run, transaction.now
    row = transaction.one(
        "SELECT r.epoch, r.version, i.ended_at,"
        " EXISTS (SELECT 1 FROM effect WHERE run_id = r.id AND step = ? AND attempt = ?), EXISTS (SELECT 1 FROM pause)"
        " FROM run AS r JOIN incident AS i ON i.id = r.incident_id WHERE r.id = ?",
        request.step,
        request.attempt,
        run.id,
    )
    if row is None or tuple(row[:2]) != (run.epoch, run.version):
        raise moved_on(transaction, run)
    refusal = (
        _decide.refused(request, row[2], all_pauses(transaction.connection) if row[4] else (), now)
        or _decide.approved(request, _approval(transaction, request), now)
        or over(transaction.connection, request.limits, run, request.incident_key, request.target, now)
    )
    if refusal is not None:
        return refusal
    if row[3]:
        raise Lost(f"run {run.id}: step {request.step} already had licence {request.attempt}")
    money = _sqlite_money.plan(transaction, request)
    if isinstance(money, Refusal):
        return money
    effect_id = ids()
    transaction.run(
        "INSERT INTO effect (id,run_id,step,attempt,epoch,rule,incident_key,action,target,subject,effect,state,change,"
        "outcome,licensed_at,closing) VALUES (?,?,?,?,?,?,?,?,?,?,?,'intent',?,'{}',?,?)",
        effect_id,
        run.id,
        request.step,
        request.attempt,
        run.epoch,
        run.rule,
        request.incident_key,
        request.action,
        request.target,
        request.subject,
        request.effect,
        canonical_json(request.change),
        now,
        int(request.closing),
    )
    announce(transaction, request, effect_id)
    written = write_run(transaction, run)
    transaction.record(request.entry)
    _sqlite_money.reserve(transaction, request, money, effect_id, ids)
    return Licence(written, effect_id)


def _approval(transaction: Transaction, request: LicenceRequest) -> Any:
    return newest_approval(transaction.connection, request.run.id) if request.approval else None


def over(
    connection: sqlite3.Connection, limits: Sequence[Limit], run: Run, incident_key: str, target: str, now: float
) -> Refusal | None:
    """The refusal of the first limit that other runs have used up, or None."""
    for limit in limits:
        column, value = _decide.scope_value(limit, run.rule, incident_key, target)
        scope = f"{column} = ? AND " if column else ""
        values: list[Any] = [value] if column else []
        if column == "service":
            scope, values = "rule IN (SELECT value FROM json_each(?)) AND ", [json.dumps(limit.rules)]
        cutoff = now - limit.window
        if limit.since == "start":
            at, extra = "max(licensed_at)", "licensed_at > ? AND "
            values += [cutoff, cutoff, run.id, limit.runs]
        else:
            at, extra = "CASE WHEN max(over_at IS NULL) THEN NULL ELSE max(over_at) END", ""
            values += [cutoff, run.id, limit.runs]
        rows = connection.execute(
            f"SELECT {at} AS at FROM effect WHERE {scope}{extra}(over_at IS NULL OR over_at > ?)"  # noqa: S608
            " AND run_id <> ? AND closing = 0 GROUP BY run_id ORDER BY at IS NOT NULL, at DESC LIMIT ?",
            values,
        ).fetchall()
        ends = [row[0] for row in rows]
        until = min(ends) + limit.window if ends and None not in ends else None
        refusal = _decide.over_limit(limit, len(ends), until)
        if refusal is not None:
            return refusal
    return None


def conclude(
    transaction: Transaction,
    run: Run,
    effect_id: str,
    state: str,
    outcome: Mapping[str, Any],
    entries: Sequence[Entry],
    follow: Sequence[Run] = (),
) -> Run:
    """Write what came of a licence with the run's next state."""
    written = write_run(transaction, still_waits(transaction, run, effect_id))
    found = transaction.run(
        "UPDATE effect SET state = ?, outcome = ?, finished_at = ? WHERE id = ? AND run_id = ?",
        state,
        canonical_json(outcome),
        transaction.now,
        effect_id,
        run.id,
    )
    if not found:
        raise NotFound(f'run {run.id} has no licence "{effect_id}"')
    end_run(transaction, run)
    transaction.record(*entries)
    _sqlite_money.release(transaction, effect_id)
    add_runs(transaction, follow)
    return written


def late(
    transaction: Transaction, effect_id: str, state: str, outcome: Mapping[str, Any], entry: Entry
) -> None:
    """Append evidence; moves nothing."""
    if transaction.one("SELECT 1 FROM effect WHERE id = ?", effect_id) is None:
        raise NotFound(f'there is no licence "{effect_id}"')
    transaction.run(
        "INSERT INTO effect_evidence (effect_id,state,outcome,at) VALUES (?,?,?,?)",
        effect_id,
        state,
        canonical_json(outcome),
        transaction.now,
    )
    transaction.record(entry)
