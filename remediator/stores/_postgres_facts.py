"""What guards ask of the PostgreSQL store, each from an index and bounded; and the few rows that guards keep."""

from __future__ import annotations

import json
from collections.abc import Sequence

from remediator.errors import NotFound
from remediator.facts import Announced, GuardState, OpenedRun, PastChange, PastRun
from remediator.incident import Incident
from remediator.store import LicenceRequest
from remediator.stores import _guards
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_session import Session, Transaction
from remediator.stores._rows import GUARD_STATE, INCIDENT, read_guard_state, read_incident, read_locks

STATES: Name = ("guards",)
"""Held alone by whoever opens or closes what a guard keeps: two replicas never open the same storm twice."""

_TRIES = 4
"""Licences looked at for each run that is asked for: most runs have fewer."""


async def past_runs(
    session: Session, of: str, values: Sequence[str], since: float, but: str, most: int
) -> list[PastRun]:
    """Runs with a licence that go on or ended after ``since``."""
    column = _guards.COLUMNS.get(of)
    # Compared with one value where there is one: the index then gives its rows in order.
    compared = "$4" if len(values) == 1 else "ANY($4::text[])"
    scope = f"{column} = {compared} AND " if column else ""
    chosen = f"SELECT run_id, licensed_at, over_at FROM effect WHERE {scope}closing = 0 AND run_id <> $1 AND over_at"  # noqa: S608
    given = ((values[0] if len(values) == 1 else list(values)),) if column else ()
    rows = await session.all(
        "SELECT e.run_id, r.rule, r.state, r.reason, e.licensed_at, e.over_at FROM ("  # noqa: S608
        f"(SELECT * FROM ({chosen} IS NULL LIMIT $3) AS a) UNION ALL"
        f" (SELECT * FROM ({chosen} > $2 ORDER BY over_at DESC LIMIT $3) AS b)"
        ") AS e JOIN run AS r ON r.id = e.run_id",
        but,
        since,
        most * _TRIES,
        *given,
    )
    return _guards.past_runs(rows, most)


async def past_changes(session: Session, target: str, since: float, but: str, most: int) -> list[PastChange]:
    """Licences on a target since then."""
    rows = await session.all(
        "SELECT run_id, rule, action, subject, state, change, licensed_at FROM effect WHERE target = $1"
        " AND run_id <> $2 AND (over_at IS NULL OR over_at > $3) AND licensed_at > $3"
        " AND state <> 'failed' AND closing = 0"
        " ORDER BY licensed_at DESC LIMIT $4",
        target,
        but,
        since,
        most,
    )
    found = []
    for row in rows:
        run_id, rule, action, subject, state, change, at = row
        told = json.loads(change)
        found.append(PastChange(run_id, rule, action, subject, state, told["before"], told["after"], at))
    return found


async def lives(session: Session, key: str, most: int) -> list[float]:
    """When the newest incidents of a problem began."""
    sql = "SELECT opened_at FROM incident WHERE key = $1 ORDER BY ordinal DESC LIMIT $2"
    return [row[0] for row in await session.all(sql, key, most)]


async def opened(session: Session, since: float, most: int) -> list[OpenedRun]:
    """The newest runs since then."""
    sql = (
        "SELECT created_at, incident_id, rule FROM run WHERE kind = 'remedy' AND created_at > $1"
        " ORDER BY created_at DESC, incident_id DESC, rule DESC LIMIT $2"
    )
    return [OpenedRun(*row) for row in await session.all(sql, since, most)]


async def opened_count(session: Session, since: float, until: float) -> int:
    """How many incidents had runs opened in between."""
    sql = "SELECT count(DISTINCT incident_id) FROM run WHERE kind = 'remedy' AND created_at > $1 AND created_at <= $2"
    return int((await session.one(sql, since, until))[0])


async def targets_firing(session: Session) -> frozenset[str]:
    """Targets of the runs of open incidents."""
    rows = await session.all(
        "SELECT DISTINCT run.locks FROM incident JOIN run ON run.incident_id = incident.id"
        " WHERE incident.ended_at IS NULL AND run.kind = 'remedy'"
    )
    return frozenset(lock.target for row in rows for lock in read_locks(row[0]))


async def firing(session: Session, texts: Sequence[str], most: int) -> list[Incident]:
    """Open incidents whose members hold all texts."""
    rows = await session.all(
        f"SELECT {INCIDENT} FROM incident WHERE ended_at IS NULL"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM unnest($1::text[]) AS t (text) WHERE position(t.text IN members) = 0)"
        " ORDER BY id DESC LIMIT $2",
        list(texts),
        most,
    )
    return [read_incident(row) for row in rows]


_COVERING = (
    " FROM announcement AS a JOIN effect AS e ON e.id = a.effect_id WHERE a.alert = $1 AND a.run_id <> $2"
    " AND e.state <> 'failed' AND e.licensed_at <= $3 AND (e.finished_at IS NULL OR e.finished_at + a.lasts > $3)"
)


async def announced(session: Session, alert: str, at: float, but: str) -> list[Announced]:
    """Who had announced an alert for the instant ``at``."""
    rows = await session.all(
        "SELECT a.run_id, a.rule, e.licensed_at, coalesce(e.finished_at, remediator_now()) + a.lasts AS ends, a.depth"
        + _COVERING
        + " ORDER BY ends DESC, a.depth DESC LIMIT 100",
        alert,
        but,
        at,
    )
    return [Announced(*row) for row in rows]


async def announce(transaction: Transaction, request: LicenceRequest, effect_id: str) -> None:
    """Write what an effect will make fire, one deeper than what made its own alert fire."""
    if not request.announces:
        return
    run, now = request.run, await transaction.now()
    row = await transaction.one(f"SELECT max(a.depth){_COVERING}", request.answers, run.id, run.created_at)
    depth = 0 if row is None or row[0] is None else int(row[0]) + 1
    alerts = list(request.announces)
    await transaction.run(
        "DELETE FROM announcement AS a USING effect AS e WHERE a.alert = ANY($1::text[]) AND e.id = a.effect_id"
        " AND e.finished_at + a.lasts < $2",
        alerts,
        now - _guards.FORGET,
    )
    await transaction.run(
        "INSERT INTO announcement (effect_id, alert, run_id, rule, lasts, depth)"
        " SELECT DISTINCT $1, t.alert, $2, $3, $4::double precision, $5::bigint FROM unnest($6::text[]) AS t (alert)",
        effect_id,
        run.id,
        run.rule,
        request.announces_for,
        depth,
        alerts,
    )


async def guard_states(session: Session, guard: str, open_only: bool) -> list[GuardState]:
    """What guards keep."""
    rows = await session.all(
        f"SELECT {GUARD_STATE} FROM guard_state WHERE ($1::text = '' OR guard = $1) AND open >= $2"  # noqa: S608
        " ORDER BY guard, scope",
        guard,
        int(open_only),
    )
    return [read_guard_state(row) for row in rows]


async def open_guard(transaction: Transaction, wanted: GuardState) -> GuardState:
    """Open or lengthen."""
    sql = f"SELECT {GUARD_STATE} FROM guard_state WHERE guard = $1 AND scope = $2"  # noqa: S608
    row = await transaction.one(sql, wanted.guard, wanted.scope)
    before = read_guard_state(row) if row is not None else None
    state, entry = _guards.opened(before, wanted, await transaction.now())
    if state != before:
        await _write(transaction, state)
    if entry is not None:
        transaction.record(entry)
    return state


async def close_guard(
    transaction: Transaction, guard: str, scope: str, actor: str, reason: str
) -> list[GuardState]:
    """Close and wake what was held."""
    done, now = [], await transaction.now()
    for before in await guard_states(transaction, guard, True):
        if scope in ("", before.scope):
            state, entry = _guards.closed(before, actor, reason, now)
            await _write(transaction, state)
            transaction.record(entry)
            done.append(state)
    if not done:
        raise NotFound(f"{guard} is not open" + (f' under "{scope}"' if scope else ""))
    transaction.wakes = True
    await transaction.run(
        "WITH held AS (SELECT id FROM run WHERE state = 'held' AND reason = $2 AND wake_at > $1"
        " ORDER BY id FOR UPDATE) UPDATE run SET wake_at = $1 FROM held WHERE run.id = held.id",
        now,
        guard,
    )
    return done


async def _write(transaction: Transaction, state: GuardState) -> None:
    await transaction.run(
        f"INSERT INTO guard_state ({GUARD_STATE}) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (guard, scope)"  # noqa: S608
        " DO UPDATE SET open = $3, since = $4, until = $5, why = $6, actor = $7",
        *state[:2],
        int(state.open),
        *state[3:],
    )
