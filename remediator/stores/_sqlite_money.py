"""Money in the SQLite store: reserved in the licence transaction, moved by version, given back with the licence."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.errors import Conflict, NotFound
from remediator.ids import Ids
from remediator.ledger import Transfer
from remediator.store import LicenceRequest, Refusal
from remediator.stores import _money
from remediator.stores._money import OPEN, TRANSFER
from remediator.stores._sqlite_writer import Transaction

_WRITTEN = TRANSFER.split(",")


def plan(transaction: Transaction, request: LicenceRequest) -> Transfer | Refusal | None:
    """What the licence does about money: go on with a transfer, refuse, or (None) reserve. Reads only."""
    spend = request.spend
    if spend is None:
        return None
    if (refusal := _money.never(request)) is not None:
        return refusal
    rows = transaction.all(
        f"SELECT {TRANSFER} FROM transfer WHERE key = ?1 OR source = ?2 AND ({OPEN} OR closed_at > ?3 OR slot > ?4)"  # noqa: S608
        f" OR destination = ?5 AND ({OPEN} OR slot > ?4)",
        _money.key_of(request),
        spend.source,
        _money.since(transaction.now),
        spend.slot,
        spend.destination,
    )
    return _money.answer(spend, rows, _money.key_of(request), transaction.now)


def reserve(
    transaction: Transaction, request: LicenceRequest, planned: Transfer | None, effect_id: str, ids: Ids
) -> None:
    """Write what ``plan`` said, with the licence ``effect_id``."""
    if request.spend is None:
        return
    if planned is not None:
        _write(transaction, replace(planned, effect_id=effect_id), {"effect": effect_id})
        return
    transfer = _money.new(request, request.spend, id=ids(), effect_id=effect_id, now=transaction.now)
    marks = ",".join("?" * len(_WRITTEN))
    transaction.run(f"INSERT INTO transfer ({TRANSFER}) VALUES ({marks})", *_money.row(transfer))  # noqa: S608
    _tell(transaction, transfer, {"effect": effect_id})


def release(transaction: Transaction, effect_id: str) -> None:
    """Give back what a licence reserved and nobody signed: it has its outcome now."""
    for row in transaction.all(
        f"SELECT {TRANSFER} FROM transfer WHERE effect_id = ? AND state = 'reserved'",  # noqa: S608
        effect_id,
    ):
        _write(transaction, _money.read(row).release("the licence is over", transaction.now), {})


def save(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
    """Write a moved transfer. Raises Conflict, NotFound."""
    closed = None if transfer.closed_at is None else transaction.now
    return _write(transaction, replace(transfer, closed_at=closed), detail)


def _write(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
    written = replace(transfer, version=transfer.version + 1)
    changed = transaction.run(
        f"UPDATE transfer SET {','.join(f'{name} = ?' for name in _WRITTEN)} WHERE id = ? AND version = ?",  # noqa: S608
        *_money.row(written),
        transfer.id,
        transfer.version,
    )
    if not changed:
        one(transaction.connection, transfer.id)
        raise Conflict(f"transfer {transfer.id} was moved by somebody else")
    _tell(transaction, written, detail)
    return written


def _tell(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> None:
    rule = transaction.one("SELECT rule, rule_digest FROM run WHERE id = ?", transfer.run_id)
    transaction.record(_money.told(transfer, detail, rule))


def of_key(connection: sqlite3.Connection, key: str) -> Transfer | None:
    """The newest transfer under a key, or None."""
    row = connection.execute(
        f"SELECT {TRANSFER} FROM transfer WHERE key = ? ORDER BY reserved_at DESC, id DESC LIMIT 1",  # noqa: S608
        (key,),
    ).fetchone()
    return None if row is None else _money.read(row)


def one(connection: sqlite3.Connection, transfer_id: str) -> Transfer:
    """One transfer. Raises NotFound."""
    row = connection.execute(f"SELECT {TRANSFER} FROM transfer WHERE id = ?", (transfer_id,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound(f'there is no transfer "{transfer_id}"')
    return _money.read(row)


def several(
    connection: sqlite3.Connection, source: str, open_only: bool, before: str, limit: int
) -> Sequence[Transfer]:
    """Transfers, newest first."""
    rows = connection.execute(
        f"SELECT {TRANSFER} FROM transfer WHERE (? = '' OR source = ?) AND (? = 0 OR {OPEN})"  # noqa: S608
        " AND (? = '' OR id < ?) ORDER BY id DESC LIMIT ?",
        (source, source, int(open_only), before, before, limit),
    ).fetchall()
    return [_money.read(row) for row in rows]
