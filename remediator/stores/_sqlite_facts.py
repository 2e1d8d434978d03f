"""What guards ask of the SQLite store, each answered from an index and bounded; and the few rows that guards keep."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from remediator.errors import NotFound
from remediator.facts import Announced, GuardState, OpenedRun, PastChange, PastRun
from remediator.incident import Incident
from remediator.store import LicenceRequest
from remediator.stores import _guards
from remediator.stores._rows import GUARD_STATE, INCIDENT, read_guard_state, read_incident, read_locks
from remediator.stores._sqlite_writer import Transaction

_TRIES = 4
"""Licences looked at for each run that is asked for: most runs have fewer."""


def past_runs(
    connection: sqlite3.Connection, of: str, values: Sequence[str], since: float, but: str, most: int
) -> list[PastRun]:
    """Runs with a licence that go on or ended after ``since``."""
    column = _guards.COLUMNS.get(of)
    scope = f"{column} IN (SELECT value FROM json_each(?1)) AND " if column else ""  # noqa: S608
    if column and len(values) == 1:
        scope = f"{column} = json_extract(?1, '$[0]') AND "  # One value: the index gives its rows in order.
    chosen = f"SELECT run_id, licensed_at, over_at FROM effect WHERE {scope}closing = 0 AND run_id <> ?2 AND over_at"  # noqa: S608
    rows = connection.execute(
        "SELECT e.run_id, r.rule, r.state, r.reason, e.licensed_at, e.over_at FROM ("  # noqa: S608
        f"SELECT * FROM ({chosen} IS NULL LIMIT ?4) UNION ALL"
        f" SELECT * FROM ({chosen} > ?3 ORDER BY over_at DESC LIMIT ?4)"
        ") AS e CROSS JOIN run AS r ON r.id = e.run_id",
        (json.dumps(list(values)), but, since, most * _TRIES),
    ).fetchall()
    return _guards.past_runs(rows, most)


def past_changes(
    connection: sqlite3.Connection, target: str, since: float, but: str, most: int
) -> list[PastChange]:
    """Licences on a target since then."""
    rows = connection.execute(
        "SELECT run_id, rule, action, subject, state, change, licensed_at FROM effect WHERE target = ? AND run_id <> ?"
        " AND (over_at IS NULL OR over_at > ?) AND licensed_at > ? AND state <> 'failed' AND closing = 0"
        " ORDER BY licensed_at DESC LIMIT ?",
        (target, but, since, since, most),
    ).fetchall()
    found = []
    for row in rows:
        run_id, rule, action, subject, state, change, at = row
        told = json.loads(change)
        found.append(PastChange(run_id, rule, action, subject, state, told["before"], told["after"], at))
    return found


def lives(connection: sqlite3.Connection, key: str, most: int) -> list[float]:
    """When the newest incidents of a problem began."""
    sql = "SELECT opened_at FROM incident WHERE key = ? ORDER BY id DESC LIMIT ?"
    return [row[0] for row in connection.execute(sql, (key, most)).fetchall()]


def opened(connection: sqlite3.Connection, since: float, most: int) -> list[OpenedRun]:
    """The newest runs since then."""
    sql = (
        "SELECT created_at, incident_id, rule FROM run INDEXED BY run_created WHERE kind = 'remedy' AND created_at > ?"
        " ORDER BY created_at DESC, incident_id DESC, rule DESC LIMIT ?"
    )
    return [OpenedRun(*row) for row in connection.execute(sql, (since, most)).fetchall()]


def opened_count(connection: sqlite3.Connection, since: float, until: float) -> int:
    """How many incidents had runs opened in between."""
    sql = (
        "SELECT count(DISTINCT incident_id) FROM run INDEXED BY run_created"
        " WHERE kind = 'remedy' AND created_at > ? AND created_at <= ?"
    )
    return int(connection.execute(sql, (since, until)).fetchone()[0])


def targets_firing(connection: sqlite3.Connection) -> frozenset[str]:
    """Targets of the runs of open incidents."""
    rows = connection.execute(
        "SELECT DISTINCT run.locks FROM incident INDEXED BY incident_open CROSS JOIN run"
        " ON run.incident_id = incident.id WHERE incident.ended_at IS NULL AND run.kind = 'remedy'"
    ).fetchall()
    return frozenset(lock.target for row in rows for lock in read_locks(row[0]))


def firing(connection: sqlite3.Connection, texts: Sequence[str], most: int) -> list[Incident]:
    """Open incidents whose members hold all texts."""
    rows = connection.execute(
        f"SELECT {INCIDENT} FROM incident INDEXED BY incident_open WHERE ended_at IS NULL"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM json_each(?) AS t WHERE instr(members, t.value) = 0)"
        " ORDER BY id DESC LIMIT ?",
        (json.dumps(list(texts)), most),
    ).fetchall()
    return [read_incident(row) for row in rows]


_COVERING = (
    " FROM announcement AS a CROSS JOIN effect AS e ON e.id = a.effect_id WHERE a.alert = ?1 AND a.run_id <> ?2"
    " AND e.state <> 'failed' AND e.licensed_at <= ?3 AND (e.finished_at IS NULL OR e.finished_at + a.lasts > ?3)"
)


def announced(connection: sqlite3.Connection, alert: str, at: float, but: str, now: float) -> list[Announced]:
    """Who had announced an alert for the instant ``at``."""
    rows = connection.execute(
        "SELECT a.run_id, a.rule, e.licensed_at, coalesce(e.finished_at, ?4) + a.lasts AS ends, a.depth"
        + _COVERING
        + " ORDER BY ends DESC, a.depth DESC LIMIT 100",
        (alert, but, at, now),
    ).fetchall()
    return [Announced(*row) for row in rows]


def announce(transaction: Transaction, request: LicenceRequest, effect_id: str) -> None:
    """Write what an effect will make fire, one deeper than what made its own alert fire."""
    if not request.announces:
        return
    run, now = request.run, transaction.now
    row = transaction.one(f"SELECT max(a.depth){_COVERING}", request.answers, run.id, run.created_at)
    depth = 0 if row is None or row[0] is None else int(row[0]) + 1
    alerts = json.dumps(list(request.announces))
    transaction.run(
        "DELETE FROM announcement WHERE alert IN (SELECT value FROM json_each(?)) AND EXISTS"
        " (SELECT 1 FROM effect WHERE id = effect_id AND finished_at + lasts < ?)",
        alerts,
        now - _guards.FORGET,
    )
    transaction.run(
        "INSERT INTO announcement (effect_id,alert,run_id,rule,lasts,depth)"
        " SELECT DISTINCT ?, value, ?, ?, ?, ? FROM json_each(?)",
        effect_id,
        run.id,
        run.rule,
        request.announces_for,
        depth,
        alerts,
    )


def guard_states(connection: sqlite3.Connection, guard: str, open_only: bool) -> list[GuardState]:
    """What guards keep."""
    rows = connection.execute(
        f"SELECT {GUARD_STATE} FROM guard_state WHERE (? = '' OR guard = ?) AND open >= ? ORDER BY guard, scope",  # noqa: S608
        (guard, guard, int(open_only)),
    ).fetchall()
    return [read_guard_state(row) for row in rows]


def open_guard(transaction: Transaction, wanted: GuardState) -> GuardState:
    """Open or lengthen."""
    sql = f"SELECT {GUARD_STATE} FROM guard_state WHERE guard = ? AND scope = ?"  # noqa: S608
    row = transaction.one(sql, wanted.guard, wanted.scope)
    before = read_guard_state(row) if row is not None else None
    state, entry = _guards.opened(before, wanted, transaction.now)
    if state != before:
        _write(transaction, state)
    if entry is not None:
        transaction.record(entry)
    return state


def close_guard(transaction: Transaction, guard: str, scope: str, actor: str, reason: str) -> list[GuardState]:
    """Close and wake what was held."""
    done = []
    for before in guard_states(transaction.connection, guard, True):
        if scope in ("", before.scope):
            state, entry = _guards.closed(before, actor, reason, transaction.now)
            _write(transaction, state)
            transaction.record(entry)
            done.append(state)
    if not done:
        raise NotFound(f"{guard} is not open" + (f' under "{scope}"' if scope else ""))
    transaction.run(
        "UPDATE run SET wake_at = ? WHERE state = 'held' AND reason = ? AND wake_at > ?",
        transaction.now,
        guard,
        transaction.now,
    )
    return done


def _write(transaction: Transaction, state: GuardState) -> None:
    sql = f"INSERT OR REPLACE INTO guard_state ({GUARD_STATE}) VALUES (?,?,?,?,?,?,?)"  # noqa: S608
    transaction.run(sql, *state[:2], int(state.open), *state[3:])
