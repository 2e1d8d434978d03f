"""What every move of a run shares in the PostgreSQL store: the fenced write, and the end of what it held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remediator.action import canonical_json
from remediator.errors import Lost, NotFound, StateError
from remediator.run import SOURCES, Run, State
from remediator.stores import _decide
from remediator.stores._postgres_session import Transaction, unnest
from remediator.stores._rows import RUN, run_row

_WRITTEN = (
    "id", "epoch", "version", "state", "reason", "message", "mode", "owner", "lease_until", "wake_at", "updated_at",
    "tries", "progress",
)  # fmt: skip
# The owner knows the lease of its claim only, and may have renewed it since: it can give it up, never change it.
_LEASE = "lease_until = CASE WHEN w.lease_until = 0 THEN 0 ELSE run.lease_until END"
_SET = ", ".join(_LEASE if name == "lease_until" else f"{name} = w.{name}" for name in _WRITTEN[3:])
_WRITE = (
    f"UPDATE run SET version = w.version + 1, {_SET}"  # noqa: S608
    f" FROM {unnest(_WRITTEN)} AS w ({','.join(_WRITTEN)})"
    " WHERE run.id = w.id AND run.epoch = w.epoch AND run.version = w.version"
    f" AND run.state = ANY(${len(_WRITTEN) + 1}::text[])"
)


async def add_runs(transaction: Transaction, runs: Sequence[Run]) -> None:
    """Insert runs that follow from another one; what is about the same is there already and stays as it is."""
    marks = ",".join(f"${number}" for number in range(1, RUN.count(",") + 2))
    for run in runs:
        sql = f"INSERT INTO run ({RUN}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        if await transaction.run(sql, *run_row(run)):
            transaction.record(_decide.followed(run))


async def moved_on(transaction: Transaction, run: Run) -> Exception:
    """Why a write by ``run``'s epoch and version found no row: Lost, NotFound, or StateError for no move."""
    row = await transaction.one("SELECT epoch, version, state FROM run WHERE id = $1", run.id)
    if row is None:
        return NotFound(f'there is no run "{run.id}"')
    if (row[0], row[1]) == (run.epoch, run.version):
        return StateError(f"run {run.id}: no move from {row[2]} to {run.state}")
    return Lost(f"run {run.id} is at epoch {row[0]}, version {row[1]}; this owner knows {run.epoch}, {run.version}")


async def write_run(transaction: Transaction, run: Run) -> Run:
    """Write a run as moved, if it is where its owner knows it to be and there is such a move.

    Raises Lost, NotFound or StateError, and then wrote nothing.
    """
    return (await write_runs(transaction, [run]))[0]


async def write_runs(transaction: Transaction, runs: Sequence[Run]) -> list[Run]:
    """Write several runs that were moved to one state; the rows of more than one must be locked already."""
    rows = [
        (
            run.id, run.epoch, run.version, run.state.value, run.reason, run.message, run.mode, run.owner,
            run.lease_until, run.wake_at, run.updated_at, run.tries, canonical_json(run.progress),
        )
        for run in runs
    ]  # fmt: skip
    if rows:
        changed = await transaction.run(_WRITE, *zip(*rows, strict=True), list(SOURCES[runs[0].state]))
        if changed != len(rows):
            raise await moved_on(transaction, runs[0])
    return [replace(run, version=run.version + 1) for run in runs]


async def end_run(transaction: Transaction, run: Run) -> None:
    """If the run has ended, so has the time in which its effects keep others waiting."""
    if not run.live:
        await transaction.run(
            "UPDATE effect SET over_at = remediator_now() WHERE run_id = $1 AND over_at IS NULL", run.id
        )


async def still_waits(transaction: Transaction, run: Run, concluded: str = "") -> Run:
    """The run as it goes to wait; due at once if its incident ended while its owner was busy with it.

    ``concluded`` is the licence whose outcome is written in this transaction. The incident is locked before the run, in
    the order of intake: an end that is being committed is waited for and seen, or it waits and sees this run wait.
    """
    if run.state not in (State.HELD, State.VERIFYING):
        return run
    incident = await transaction.one("SELECT ended_at FROM incident WHERE id = $1 FOR SHARE", run.incident_id)
    row = await transaction.one(
        "SELECT state, wake_at > updated_at,"
        " EXISTS (SELECT 1 FROM effect WHERE run_id = run.id AND state = 'intent' AND id <> $2)"
        " FROM run WHERE id = $1 FOR UPDATE",
        run.id,
        concluded,
    )
    if row is None or incident is None:
        return run
    return _decide.waits(run, row[0], row[1], incident[0], row[2], now=await transaction.now())
