"""Money in the PostgreSQL store: reserved in the licence transaction, moved by version, given back with the licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.errors import Conflict, NotFound
from remediator.ids import Ids
from remediator.ledger import Transfer
from remediator.store import LicenceRequest, Refusal
from remediator.stores import _money
from remediator.stores._money import OPEN, TRANSFER
from remediator.stores._postgres_database import Name
from remediator.stores._postgres_session import Session, Transaction

MONEY: Name = ("money",)
"""Held alone by every licence that spends: two replicas never count the same room under a cap."""
_WRITTEN = TRANSFER.split(",")
_MARKS = ",".join(f"${number}" for number in range(1, len(_WRITTEN) + 1))
_SET = ", ".join(f"{name} = ${number}" for number, name in enumerate(_WRITTEN, 1))


def locks(request: LicenceRequest) -> list[Name]:
    """What a licence must be alone with besides its limits."""
    return [] if request.spend is None else [MONEY]


async def plan(transaction: Transaction, request: LicenceRequest) -> Transfer | Refusal | None:
    """What the licence does about money: go on with a transfer, refuse, or (None) reserve. Reads only."""
    spend = request.spend
    if spend is None:
        return None
    if (refusal := _money.never(request)) is not None:
        return refusal
    now = await transaction.now()
    rows = await transaction.all(
        f"SELECT {TRANSFER} FROM transfer WHERE key = $1 OR source = $2 AND ({OPEN} OR closed_at > $3 OR slot > $4)"  # noqa: S608
        f" OR destination = $5 AND ({OPEN} OR slot > $4)",
        _money.key_of(request),
        spend.source,
        _money.since(now),
        spend.slot,
        spend.destination,
    )
    return _money.answer(spend, rows, _money.key_of(request), now)


async def reserve(
    transaction: Transaction, request: LicenceRequest, planned: Transfer | None, effect_id: str, ids: Ids
) -> None:
    """Write what ``plan`` said, with the licence ``effect_id``."""
    if request.spend is None:
        return
    if planned is not None:
        await _write(transaction, replace(planned, effect_id=effect_id), {"effect": effect_id})
        return
    transfer = _money.new(request, request.spend, id=ids(), effect_id=effect_id, now=await transaction.now())
    await transaction.run(f"INSERT INTO transfer ({TRANSFER}) VALUES ({_MARKS})", *_money.row(transfer))  # noqa: S608
    await _tell(transaction, transfer, {"effect": effect_id})


async def release(transaction: Transaction, effect_id: str) -> None:
    """Give back what a licence reserved and nobody signed: it has its outcome now."""
    rows = await transaction.all(
        f"SELECT {TRANSFER} FROM transfer WHERE effect_id = $1 AND state = 'reserved' FOR UPDATE",  # noqa: S608
        effect_id,
    )
    for row in rows:
        released = _money.read(row).release("the licence is over", await transaction.now())
        await _write(transaction, released, {})


async def save(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
    """Write a moved transfer. Raises Conflict, NotFound."""
    closed = None if transfer.closed_at is None else await transaction.now()
    return await _write(transaction, replace(transfer, closed_at=closed), detail)


async def _write(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
    written = replace(transfer, version=transfer.version + 1)
    known = len(_WRITTEN)
    changed = await transaction.run(
        f"UPDATE transfer SET {_SET} WHERE id = ${known + 1} AND version = ${known + 2}",  # noqa: S608
        *_money.row(written),
        transfer.id,
        transfer.version,
    )
    if not changed:
        await one(transaction, transfer.id)
        raise Conflict(f"transfer {transfer.id} was moved by somebody else")
    await _tell(transaction, written, detail)
    return written


async def _tell(transaction: Transaction, transfer: Transfer, detail: Mapping[str, Any]) -> None:
    rule = await transaction.one("SELECT rule, rule_digest FROM run WHERE id = $1", transfer.run_id)
    transaction.record(_money.told(transfer, detail, None if rule is None else tuple(rule)))


async def of_key(session: Session, key: str) -> Transfer | None:
    """The newest transfer under a key, or None."""
    row = await session.one(
        f"SELECT {TRANSFER} FROM transfer WHERE key = $1 ORDER BY reserved_at DESC, id DESC LIMIT 1",  # noqa: S608
        key,
    )
    return None if row is None else _money.read(row)


async def one(session: Session, transfer_id: str) -> Transfer:
    """One transfer. Raises NotFound."""
    row = await session.one(f"SELECT {TRANSFER} FROM transfer WHERE id = $1", transfer_id)  # noqa: S608
    if row is None:
        raise NotFound(f'there is no transfer "{transfer_id}"')
    return _money.read(row)


async def several(
    session: Session, source: str, open_only: bool, before: str, limit: int
) -> Sequence[Transfer]:
    """Transfers, newest first."""
    rows = await session.all(
        f"SELECT {TRANSFER} FROM transfer WHERE ($1 = '' OR source = $1) AND (NOT $2 OR {OPEN})"  # noqa: S608
        " AND ($3 = '' OR id < $3) ORDER BY id DESC LIMIT $4",
        source,
        open_only,
        before,
        limit,
    )
    return [_money.read(row) for row in rows]
