"""The transactions of a run's life in the PostgreSQL store: claim (D2), licence and outcome (D3), limits (D5)."""

from __future__ import annotations

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
from remediator.stores import _decide, _postgres_money
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_facts import announce
from remediator.stores._postgres_people import all_pauses, newest_approval
from remediator.stores._postgres_session import Session, Transaction
from remediator.stores._postgres_write import add_runs, end_run, moved_on, still_waits, write_run
from remediator.stores._rows import EFFECT, INCIDENT, RUN, read_effect, read_incident, read_locks, read_run

CLAIMING: Name = ("claim",)
"""Held alone while runs are chosen: two replicas never count the same free place on a target."""

_PAGE = 64
_DUE = (
    "SELECT id, locks, state FROM run WHERE state IN ('queued','held','verifying') AND wake_at <= $1"
    " AND lease_until <= $1 AND locks <> ALL($2::text[]) AND id <> ALL($3::text[])"
    " ORDER BY wake_at, id LIMIT $4 FOR UPDATE SKIP LOCKED"
)
_DEAD = (
    "SELECT id FROM run WHERE state = 'running' AND lease_until <= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_HOLDING = (
    "SELECT id, locks, state FROM run WHERE state = 'running' UNION SELECT run.id, locks, run.state FROM effect"
    " JOIN run ON run.id = effect.run_id WHERE effect.state = 'intent' AND run.state IN ('queued','held')"
)
"""Runs that hold their locks: those that run, and those that wait to learn what came of a licence."""
_WAITING = (
    "SELECT id, state FROM run WHERE id = ANY($1::text[]) AND state IN ('queued','held') AND wake_at <= $2"
    " ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED"
)
_CLAIM = (
    "UPDATE run SET epoch = epoch + 1, version = version + 1, owner = $1, lease_until = $2, updated_at = $3,"  # noqa: S608
    " tries = tries + (state = 'running')::int,"
    " state = CASE state WHEN 'verifying' THEN 'verifying' ELSE 'running' END"
    f" WHERE id = ANY($4::text[]) RETURNING {RUN}"
)
_RENEW = (
    "WITH ours AS (SELECT run.id FROM run JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS w (id, epoch, owner)"
    " ON run.id = w.id AND run.epoch = w.epoch AND run.owner = w.owner ORDER BY run.id FOR UPDATE OF run)"
    " UPDATE run SET lease_until = remediator_now() + $4 FROM ours WHERE run.id = ours.id RETURNING run.id"
)


async def claim(transaction: Transaction, owner: str, lease: float, most: int) -> list[Claim]:
    """Take up to ``most`` due runs whose locks are free, those that waited longest first."""
    now = await transaction.now()
    chosen = await _choose(transaction, most, now)
    if not chosen:
        return []
    rows = await transaction.all(_CLAIM, owner, now + lease, now, list(chosen))
    runs = [read_run(row) for row in rows]
    runs.sort(key=lambda run: (run.wake_at, run.id))
    for run in runs:
        entry = _decide.claimed(run, chosen[run.id])
        if entry is not None:
            transaction.record(entry)
    return await _with_context(transaction, runs)


async def _choose(transaction: Transaction, most: int, now: float) -> dict[str, str]:
    active: list[Lock] = []
    waiting: list[str] = []
    for run_id, locks, state in await transaction.all(_HOLDING):
        active += read_locks(locks)
        if state != "running":
            waiting.append(run_id)
    # A dead owner's run is taken over with the locks it holds; so is one that waits to learn what it has done.
    chosen = {row[0]: "running" for row in await transaction.all(_DEAD, now, most)}
    if waiting and len(chosen) < most:
        chosen |= {row[0]: row[1] for row in await transaction.all(_WAITING, waiting, now, most - len(chosen))}
    full: list[str] = []
    while len(chosen) < most:
        # Rows that somebody else is just moving are skipped; whoever moves them wakes us.
        rows = await transaction.all(_DUE, now, full, list(chosen), min(_PAGE, most - len(chosen)))
        for run_id, text, state in rows:
            locks = read_locks(text)
            if state == "verifying":
                chosen[run_id] = state
            elif _decide.busy(locks, active):
                full.append(text)
            else:
                chosen[run_id] = state
                active += locks
        if not rows:
            break
    return chosen


async def _with_context(transaction: Transaction, runs: Sequence[Run]) -> list[Claim]:
    rows = await transaction.all(
        f"SELECT {INCIDENT} FROM incident WHERE id = ANY($1::text[])",  # noqa: S608
        [run.incident_id for run in runs],
    )
    incidents = {row[0]: read_incident(row) for row in rows}
    effects: dict[str, list[EffectRow]] = defaultdict(list)
    for row in await transaction.all(
        f"SELECT {EFFECT} FROM effect WHERE run_id = ANY($1::text[]) ORDER BY ordinal",  # noqa: S608
        [run.id for run in runs],
    ):
        effects[row[1]].append(read_effect(row))
    return [Claim(run, incidents[run.incident_id], tuple(effects[run.id])) for run in runs]


async def renew(session: Session, runs: Sequence[Run], lease: float) -> Collection[str]:
    """Lengthen leases by id, epoch and owner; ids that are no longer held so are lost."""
    rows = await session.all(
        _RENEW, [run.id for run in runs], [run.epoch for run in runs], [run.owner for run in runs], lease
    )
    return {run.id for run in runs} - {row[0] for row in rows}


async def save(
    transaction: Transaction, run: Run, entries: Sequence[Entry], follow: Sequence[Run] = ()
) -> Run:
    """Write a moved run, if this owner still has it, with what follows from it, and record."""
    if _decide.waits_for_resume(run):
        run = _decide.still_paused(run, await all_pauses(transaction), await transaction.now())
    written = await write_run(transaction, await still_waits(transaction, run))
    await end_run(transaction, run)
    transaction.record(*entries)
    await add_runs(transaction, follow)
    return written


def scopes(request: LicenceRequest) -> list[Name]:
    """What the limits of a licence count, to be locked: nobody else counts the same until this one is written."""
    run, key, target = request.run, request.incident_key, request.target
    return [("limit", *_decide.scope_value(limit, run.rule, key, target)) for limit in request.limits]


async def licence(transaction: Transaction, request: LicenceRequest, ids: Ids) -> Licence | Refusal:
    """Everything that must hold at the moment of the permission, then the intent; a refusal writes nothing.

    Rows are locked in the order of intake, the incident and then the run, so that an end that is being committed is
    waited for and seen.
    """
    run = request.run
    incident = await transaction.one("SELECT ended_at FROM incident WHERE id = $1 FOR SHARE", run.incident_id)
    row = await transaction.one(
        "SELECT epoch, version, EXISTS (SELECT 1 FROM effect WHERE run_id = run.id AND step = $2 AND attempt = $3)"
        " FROM run WHERE id = $1 FOR UPDATE",
        run.id,
        request.step,
        request.attempt,
    )
    if row is None or incident is None or (row[0], row[1]) != (run.epoch, run.version):
        raise await moved_on(transaction, run)
    now = await transaction.now()
    approval = await newest_approval(transaction, run.id) if request.approval else None
    refusal = (
        _decide.refused(request, incident[0], await all_pauses(transaction), now)
        or _decide.approved(request, approval, now)
        or await over(transaction, request.limits, run, request.incident_key, request.target)
    )
    if refusal is not None:
        return refusal
    if row[2]:
        raise Lost(f"run {run.id}: step {request.step} already had licence {request.attempt}")
    money = await _postgres_money.plan(transaction, request)
    if isinstance(money, Refusal):
        return money
    effect_id = ids()
    await transaction.run(
        "INSERT INTO effect (id,run_id,step,attempt,epoch,rule,incident_key,action,target,subject,effect,state,change,"
        "outcome,licensed_at,closing) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,'intent',$12,'{}',$13,$14)",
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
    await announce(transaction, request, effect_id)
    written = await write_run(transaction, run)
    transaction.record(request.entry)
    await _postgres_money.reserve(transaction, request, money, effect_id, ids)
    return Licence(written, effect_id)


async def over(
    session: Session, limits: Sequence[Limit], run: Run, incident_key: str, target: str
) -> Refusal | None:
    """The refusal of the first limit that other runs have used up, or None."""
    for limit in limits:
        cutoff = await session.now() - limit.window
        column, value = _decide.scope_value(limit, run.rule, incident_key, target)
        values: list[Any] = [run.id, limit.runs, cutoff]
        scope = ""
        if column == "service":
            scope = "rule = ANY($4::text[]) AND "
            values.append(list(limit.rules))
        elif column:
            scope = f"{column} = $4 AND "
            values.append(value)
        if limit.since == "start":
            at, extra = "max(licensed_at)", "licensed_at > $3 AND "
        else:
            at, extra = "CASE WHEN bool_or(over_at IS NULL) THEN NULL ELSE max(over_at) END", ""
        rows = await session.all(
            f"SELECT {at} AS at FROM effect WHERE {scope}{extra}(over_at IS NULL OR over_at > $3)"  # noqa: S608
            " AND run_id <> $1 AND closing = 0 GROUP BY run_id ORDER BY at DESC NULLS FIRST LIMIT $2",
            *values,
        )
        ends = [row[0] for row in rows]
        until = min(ends) + limit.window if ends and None not in ends else None
        refusal = _decide.over_limit(limit, len(ends), until)
        if refusal is not None:
            return refusal
    return None


async def conclude(
    transaction: Transaction,
    run: Run,
    effect_id: str,
    state: str,
    outcome: Mapping[str, Any],
    entries: Sequence[Entry],
    follow: Sequence[Run] = (),
) -> Run:
    """Write what came of a licence with the run's next state."""
    written = await write_run(transaction, await still_waits(transaction, run, effect_id))
    found = await transaction.run(
        "UPDATE effect SET state = $1, outcome = $2, finished_at = remediator_now() WHERE id = $3 AND run_id = $4",
        state,
        canonical_json(outcome),
        effect_id,
        run.id,
    )
    if not found:
        raise NotFound(f'run {run.id} has no licence "{effect_id}"')
    await end_run(transaction, run)
    transaction.record(*entries)
    await _postgres_money.release(transaction, effect_id)
    await add_runs(transaction, follow)
    return written


async def late(
    transaction: Transaction, effect_id: str, state: str, outcome: Mapping[str, Any], entry: Entry
) -> None:
    """Append evidence; moves nothing."""
    if await transaction.one("SELECT 1 FROM effect WHERE id = $1", effect_id) is None:
        raise NotFound(f'there is no licence "{effect_id}"')
    await transaction.run(
        "INSERT INTO effect_evidence (effect_id, state, outcome, at) VALUES ($1,$2,$3,remediator_now())",
        effect_id,
        state,
        canonical_json(outcome),
    )
    transaction.record(entry)
