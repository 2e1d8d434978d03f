"""The API of money: the ledger of transfers, and the comparison with the chain."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from typing_extensions import TypedDict

from remediator.clock import format_instant
from remediator.ledger import Transfer, sol
from remediator.redact import redact
from remediator.web.answers import answer
from remediator.web.call import Call, cursor

TRANSFER_FILTERS = ("open", "limit", "cursor")


class TransferView(TypedDict):
    """One payment. Amounts are lamports; ``transaction`` is what somebody else must sign, in base64, or null."""

    id: str
    run: str
    account: str
    source: str
    payee: str
    destination: str
    lamports: int
    amount: str
    fee: int
    state: str
    reason: str
    signature: str
    slot: int | None
    last_valid: int | None
    reserved_at: str
    signed_at: str | None
    closed_at: str | None
    transaction: str | None


class TransferList(TypedDict):
    """Transfers, newest first."""

    items: list[TransferView]
    next: str | None


class BooksView(TypedDict):
    """The comparison of one treasury: what differs, or why it could not be made."""

    target: str
    matches: bool
    error: str
    mismatches: list[Mapping[str, Any]]


class BooksList(TypedDict):
    """The comparisons of every treasury."""

    items: list[BooksView]
    next: str | None


def show_transfer(transfer: Transfer) -> TransferView:
    """``transfer`` as the API shows it. The signed bytes stay inside: who has them can send them."""
    signed = transfer.signed
    unsigned = signed.raw if signed is not None and not signed.signature and transfer.open else None
    shown: TransferView = {
        "id": transfer.id,
        "run": transfer.run_id,
        "account": transfer.account,
        "source": transfer.source,
        "payee": transfer.payee,
        "destination": transfer.destination,
        "lamports": transfer.amount,
        "amount": sol(transfer.amount),
        "fee": transfer.fee,
        "state": transfer.state.value,
        "reason": redact(transfer.reason),
        "signature": signed.signature if signed is not None else "",
        "slot": transfer.slot,
        "last_valid": signed.last_valid if signed is not None else None,
        "reserved_at": format_instant(transfer.reserved_at),
        "signed_at": format_instant(signed.at) if signed is not None else None,
        "closed_at": format_instant(transfer.closed_at) if transfer.closed_at is not None else None,
        "transaction": _unsigned(unsigned) if unsigned is not None else None,
    }
    return shown


def _unsigned(message: str) -> str:
    """A message as wallets take it: a transaction with an empty signature."""
    try:
        return base64.b64encode(b"\1" + bytes(64) + base64.b64decode(message)).decode()
    except binascii.Error:
        return message


async def list_transfers(call: Call) -> web.Response:
    """Payments and reservations, newest first."""
    call.know(*TRANSFER_FILTERS)
    limit = call.limit()
    open_only = call.choice("open", ("true", "false"), "false") == "true"
    found = await call.service.store.transfers(open_only=open_only, before=call.cursor("transfer"), limit=limit + 1)
    page = found[:limit]
    following = cursor("transfer", page[-1].id) if len(found) > limit else None
    return answer({"items": [show_transfer(transfer) for transfer in page], "next": following})


async def get_transfer(call: Call) -> web.Response:
    """One payment, with the transaction that somebody else must sign where that is so."""
    call.know()
    return answer(show_transfer(await call.service.store.transfer(call.path("id"))))


async def reconcile(call: Call) -> web.Response:
    """Hold the chain against the ledger now; whatever differs pauses its target."""
    call.know()
    books = await call.service.compare_books()
    shown: list[BooksView] = [
        {
            "target": each.target,
            "matches": each.match,
            "error": each.error,
            "mismatches": [
                {"kind": one.kind, "signature": one.signature, "message": one.message} for one in each.mismatches
            ],
        }
        for each in books
    ]
    return answer({"items": shown, "next": None})
