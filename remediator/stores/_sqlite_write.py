"""What every move of a run shares in the SQLite store: the fenced write, and the end of what it held."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from remediator.action import canonical_json
from remediator.errors import Lost, NotFound, StateError
from remediator.run import SOURCES, Run, State
from remediator.stores import _decide
from remediator.stores._rows import RUN, run_row
from remediator.stores._sqlite_writer import Transaction

_SOURCES = {to: json.dumps(states) for to, states in SOURCES.items()}


def add_runs(transaction: Transaction, runs: Sequence[Run]) -> None:
    """Insert runs that follow from another one; what is about the same is there already and stays as it is."""
    marks = ",".join("?" * (RUN.count(",") + 1))
    for run in runs:
        sql = f"INSERT INTO run ({RUN}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        if transaction.run(sql, *run_row(run)):
            transaction.record(_decide.followed(run))


def moved_on(transaction: Transaction, run: Run) -> Exception:
    """Why a write by ``run``'s epoch and version found no row: Lost, NotFound, or StateError for no move."""
    row = transaction.one("SELECT epoch, version, state FROM run WHERE id = ?", run.id)
    if row is None:
        return NotFound(f'there is no run "{run.id}"')
    if (row[0], row[1]) == (run.epoch, run.version):
        return StateError(f"run {run.id}: no move from {row[2]} to {run.state}")
    return Lost(f"run {run.id} is at epoch {row[0]}, version {row[1]}; this owner knows {run.epoch}, {run.version}")


def write_run(transaction: Transaction, run: Run) -> Run:
    """Write a run as moved, if it is where its owner knows it to be and there is such a move.

    Raises Lost, NotFound or StateError, and then wrote nothing.
    """
    written = replace(run, version=run.version + 1)
    changed = transaction.run(
        "UPDATE run SET state = ?, reason = ?, message = ?, mode = ?, version = ?, owner = ?,"
        # The owner knows the lease of its claim only, and may have renewed it since: it gives it up or leaves it.
        " lease_until = CASE WHEN ? = 0 THEN 0 ELSE lease_until END, wake_at = ?, updated_at = ?, tries = ?,"
        " progress = ? WHERE id = ? AND epoch = ? AND version = ?"
        " AND state IN (SELECT value FROM json_each(?))",
        written.state.value,
        written.reason,
        written.message,
        written.mode,
        written.version,
        written.owner,
        written.lease_until,
        written.wake_at,
        written.updated_at,
        written.tries,
        canonical_json(written.progress),
        written.id,
        run.epoch,
        run.version,
        _SOURCES[run.state],
    )
    if not changed:
        raise moved_on(transaction, run)
    return written


def end_run(transaction: Transaction, run: Run) -> None:
    """If the run has ended, so has the time in which its effects keep others waiting."""
    if not run.live:
        transaction.run("UPDATE effect SET over_at = ? WHERE run_id = ? AND over_at IS NULL", transaction.now, run.id)


def still_waits(transaction: Transaction, run: Run, concluded: str = "") -> Run:
    """The run as it goes to wait; due at once if its incident ended while its owner was busy with it.

    ``concluded`` is the licence whose outcome is written in this transaction.
    """
    if run.state not in (State.HELD, State.VERIFYING):
        return run
    row = transaction.one(
        "SELECT r.state, r.wake_at > r.updated_at, i.ended_at,"
        " EXISTS (SELECT 1 FROM effect WHERE run_id = r.id AND state = 'intent' AND id <> ?)"
        " FROM run AS r JOIN incident AS i ON i.id = r.incident_id WHERE r.id = ?",
        concluded,
        run.id,
    )
    return run if row is None else _decide.waits(run, *row, now=transaction.now)
