"""The two statements that every move of a run shares in the SQLite store: the fence, and the write."""

from __future__ import annotations

from dataclasses import replace

from remediator.action import canonical_json
from remediator.errors import Lost, NotFound
from remediator.run import Run
from remediator.stores._sqlite_writer import Transaction


def fence(transaction: Transaction, run: Run) -> None:
    """Raise Lost unless the run is where this owner knows it to be."""
    row = transaction.one("SELECT epoch, version FROM run WHERE id = ?", run.id)
    if row is None:
        raise NotFound(f'there is no run "{run.id}"')
    if tuple(row) != (run.epoch, run.version):
        raise Lost(f"run {run.id} is at epoch {row[0]}, version {row[1]}; this owner knows {run.epoch}, {run.version}")


def write_run(transaction: Transaction, run: Run) -> Run:
    """Write a run as moved; the caller has proved that it may."""
    written = replace(run, version=run.version + 1)
    transaction.run(
        "UPDATE run SET state = ?, reason = ?, message = ?, mode = ?, version = ?, owner = ?, lease_until = ?,"
        " wake_at = ?, updated_at = ?, tries = ?, progress = ? WHERE id = ?",
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
    )
    if not run.live:
        transaction.run("UPDATE effect SET over_at = ? WHERE run_id = ? AND over_at IS NULL", transaction.now, run.id)
    return written
