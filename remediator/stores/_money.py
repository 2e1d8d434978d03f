"""Transfers as rows and as records of the audit, the same in every dialect; the decisions are those of ledger.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.ledger import DAY, Signed, Spend, TooMuch, Transfer, TransferState, decide, reserved
from remediator.store import LicenceRequest, Refusal

TRANSFER = (
    "id,key,run_id,effect_id,account,source,payee,destination,amount,fee,change,state,reason,reserved_at,closed_at,"
    "signed,signature,slot,version"
)
OPEN = "state IN ('reserved','live','needs_human')"
"""Transfers whose money counts as spent without proof; the unique indexes of the schema say the same."""


def key_of(request: LicenceRequest) -> str:
    """The key of the step, as ``ActionContext.key`` has it."""
    return f"{request.run.id}-{request.step}"


def row(transfer: Transfer) -> tuple[Any, ...]:
    """The values of TRANSFER's columns."""
    signed = transfer.signed
    return (
        transfer.id, transfer.key, transfer.run_id, transfer.effect_id, transfer.account, transfer.source,
        transfer.payee, transfer.destination, transfer.amount, transfer.fee, canonical_json(dict(transfer.change)),
        transfer.state.value, transfer.reason, transfer.reserved_at, transfer.closed_at,
        "" if signed is None else canonical_json(asdict(signed)), "" if signed is None else signed.signature,
        transfer.slot, transfer.version,
    )  # fmt: skip


def read(values: Sequence[Any]) -> Transfer:
    """The transfer in a row of TRANSFER's columns."""
    return Transfer(
        id=values[0],
        key=values[1],
        run_id=values[2],
        effect_id=values[3],
        account=values[4],
        source=values[5],
        payee=values[6],
        destination=values[7],
        amount=values[8],
        fee=values[9],
        change=json.loads(values[10]),
        state=TransferState(values[11]),
        reason=values[12],
        reserved_at=values[13],
        closed_at=values[14],
        signed=Signed(**json.loads(values[15])) if values[15] else None,
        slot=values[17],
        version=values[18],
    )


def never(request: LicenceRequest) -> Refusal | None:
    """The refusal of a step that puts something back or tells people: limits do not count those, so none may spend."""
    if request.closing:
        return Refusal("deny", "closing", "steps that always run, or put something back, never move money")
    return None


def since(now: float) -> float:
    """When a transfer must have been closed to count no more, whatever its slot."""
    return now - DAY


def answer(spend: Spend, rows: Sequence[Sequence[Any]], key: str, now: float) -> Transfer | Refusal | None:
    """What a licence for ``spend`` does: go on with a transfer, refuse, or (None) reserve a new one.

    ``rows`` are the transfers under its key, and those of its source or to its destination that count.
    """
    found = [read(values) for values in rows]
    mine = [transfer for transfer in found if transfer.key == key]
    wanted = (spend.source, spend.destination)
    others = [transfer for transfer in found if transfer.source == wanted[0] or transfer.destination == wanted[1]]
    decided = decide(spend, mine, others, now)
    return Refusal(*decided) if isinstance(decided, TooMuch) else decided


def new(request: LicenceRequest, spend: Spend, *, id: str, effect_id: str, now: float) -> Transfer:
    """The transfer that a licence reserves."""
    return reserved(
        spend,
        id=id,
        key=key_of(request),
        run_id=request.run.id,
        effect_id=effect_id,
        change=request.change,
        now=now,
    )


def told(transfer: Transfer, detail: Mapping[str, Any], rule: Sequence[str] | None) -> Entry:
    """The record of a transfer's move; ``rule`` is name and digest of its run's rule, None where that is gone."""
    name, digest = rule or ("", "")
    return Entry(
        event=f"money.{transfer.state.value}",
        actor="remediator",
        run_id=transfer.run_id,
        rule=name,
        rule_digest=digest,
        detail={
            "transfer": transfer.id,
            "account": transfer.account,
            "payee": transfer.payee,
            "destination": transfer.destination,
            "lamports": transfer.amount,
            "reason": transfer.reason,
            **detail,
        },
    )
