"""The treasury of a target: its teller, its writer, and what is compared between the chain and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from remediator.clock import Clock
from remediator.errors import Conflict, PermanentError, StateError, TemporaryError
from remediator.integrations.solana._carry import (
    QUORUM,
    Draft,
    Life,
    Teller,
    blockhash_life,
    every_answer,
    first_answer,
    memo,
)
from remediator.integrations.solana._chain import SYSTEM_PROGRAM, Account, Endpoint, Signature
from remediator.integrations.solana._units import base58
from remediator.ledger import SIGNED, Ledger, Mismatch, Signed, Transfer, TransferState

if TYPE_CHECKING:
    from remediator.integrations.solana.target import SolanaTarget

_NONCE = 80
"""Bytes of a nonce account: version, state, authority, value, fee."""
_PAGE = 1000
_ALONE = 30.0
"""Seconds that a transfer is left to the run that signed it."""


def nonce_of(account: Account, address: str, authority: str) -> str:
    """The value in a nonce account. Raises PermanentError when it is none, or somebody else's."""
    data = account.data
    initialized = account.owner == SYSTEM_PROGRAM and len(data) == _NONCE and data[4:8] == b"\1\0\0\0"
    if not initialized or base58(data[8:40]) != authority:
        message = f"{address} is no nonce account of the treasury; make one with its key as authority"
        raise PermanentError(message, reason="nonce")
    return base58(data[40:72])


class TreasuryWriter:
    """Writes, compares and signs the transactions of one treasury."""

    def __init__(self, target: SolanaTarget) -> None:
        self._target = target

    async def life(self, endpoints: Sequence[Endpoint]) -> Life:
        """A blockhash, or the value of the nonce account. Raises TemporaryError, PermanentError."""
        life = await blockhash_life(endpoints)
        address = self._target.nonce_account
        if address is None:
            return life
        authority = await self._target.treasury()
        account = await first_answer(endpoints, lambda endpoint: endpoint.account(address), "the nonce")
        return Life(nonce_of(account, address, authority), life.last_valid, life.slot, address)

    async def write(self, transfer: Transfer, life: Life, price: int) -> Draft:
        """Build, compare, sign. Raises PermanentError, TemporaryError."""
        from remediator.integrations.solana import _transaction

        target, hand = self._target, self._target.hand()
        if await target.treasury() != transfer.source or target.wallet(transfer.payee) != transfer.destination:
            raise PermanentError("the settings changed after the money was reserved", reason="changed")
        payment = _transaction.Payment(
            source=transfer.source,
            destination=transfer.destination,
            amount=transfer.amount,
            memo=memo(transfer),
            price=_transaction.price_within(price, transfer.fee),
            blockhash=life.blockhash,
            nonce_account=life.nonce_account,
        )
        message = _transaction.build(payment)
        _transaction.check(payment, message)
        signature = await hand.sign(message)
        if signature is None:
            return Draft(message, "", payment.fee)
        raw, mark = _transaction.signed(message, signature, transfer.source)
        return Draft(raw, mark, payment.fee)

    async def spent(self, endpoint: Endpoint, signed: Signed) -> int | None:
        """The slot in which the nonce is another one."""
        account = await endpoint.account(signed.nonce_account)
        try:
            value = nonce_of(account, signed.nonce_account, await self._target.treasury())
        except (PermanentError, TemporaryError):
            return None  # Whatever it is now proves nothing.
        return None if value == signed.nonce else account.slot


async def teller(target: SolanaTarget, ledger: Ledger, clock: Clock) -> Teller:
    """The teller of a target, with endpoints that have shown their cluster. Raises PermanentError, TemporaryError."""
    return Teller(
        ledger=ledger,
        endpoints=await target.same_cluster(),
        writer=TreasuryWriter(target),
        clock=clock,
        poll=target.poll,
        patience=target.patience,
    )


async def balances(endpoints: Sequence[Endpoint], address: str) -> list[Account]:
    """The account as every endpoint has it. Raises TemporaryError when fewer than two answer."""
    found = await every_answer(endpoints, lambda endpoint: endpoint.account(address))
    if len(found) < QUORUM:
        message = f"{len(found)} endpoints told the balance of {address}, and {QUORUM} must"
        raise TemporaryError(message, reason="endpoints")
    return found


async def settle_open(target: SolanaTarget, ledger: Ledger, clock: Clock) -> None:
    """Close what is out and provable. Sends nothing. Raises PermanentError, TemporaryError."""
    if target.signer is None:
        return
    source = await target.treasury()
    kept = await ledger.transfers(source=source, open_only=True)
    out = [transfer for transfer in kept if _left_alone(transfer, clock)]
    if not out:
        return
    carrier = await teller(target, ledger, clock)
    for transfer in out:
        try:
            await carrier.look(transfer)
        except (Conflict, StateError):
            continue  # Its run has moved it meanwhile.


def _left_alone(transfer: Transfer, clock: Clock) -> bool:
    signed = transfer.signed
    return transfer.state in SIGNED and signed is not None and clock.now() - signed.at > _ALONE


async def mismatches(target: SolanaTarget, ledger: Ledger, clock: Clock) -> Sequence[Mismatch]:
    """Payments of the treasury that the ledger does not know, and paid transfers that the chain does not show (R34).

    Looks back to ``since`` of the settings, or to the first transfer of the ledger. Raises TemporaryError,
    PermanentError.
    """
    source = await target.treasury()
    endpoints = await target.same_cluster()
    since = _since(target, await _all(ledger, source))
    lines = await _lines(endpoints, source, since)
    # The ledger is read again after the chain: what lands in between is in the ledger before it is on the chain.
    kept = await _all(ledger, source)
    return [*await _foreign(target, endpoints, lines, kept, source), *_missing(lines, kept, since)]


def _since(target: SolanaTarget, kept: Sequence[Transfer]) -> int:
    """The first slot that is compared: what the settings say, or where the ledger begins."""
    if target.since is not None:
        return target.since
    return min((transfer.signed.slot for transfer in kept if transfer.signed is not None), default=2**63)


async def _all(ledger: Ledger, source: str) -> list[Transfer]:
    """Every transfer of a source, newest first."""
    found: list[Transfer] = []
    while page := await ledger.transfers(source=source, before=found[-1].id if found else "", limit=_PAGE):
        found += page
    return found


async def _lines(endpoints: Sequence[Endpoint], source: str, since: int) -> list[Signature]:
    """The history as all endpoints together show it: what one leaves out is not hidden. Raises TemporaryError."""
    told = await every_answer(endpoints, lambda endpoint: _history(endpoint, source, since))
    if len(told) < QUORUM:
        message = f"{len(told)} endpoints told the history of the treasury, and {QUORUM} must"
        raise TemporaryError(message, reason="endpoints")
    found = {line.signature: line for lines in told for line in lines}
    return sorted(found.values(), key=lambda line: line.slot, reverse=True)


async def _history(endpoint: Endpoint, source: str, since: int) -> list[Signature]:
    lines: list[Signature] = []
    while True:
        page = await endpoint.history(source, before=lines[-1].signature if lines else "", limit=_PAGE)
        lines += [line for line in page if line.slot >= since]
        if len(page) < _PAGE or len(lines) < len(page) or len(lines) >= 20 * _PAGE:
            return lines


async def _foreign(
    target: SolanaTarget,
    endpoints: Sequence[Endpoint],
    lines: Sequence[Signature],
    kept: Sequence[Transfer],
    source: str,
) -> list[Mismatch]:
    known = {transfer.signed.signature: transfer for transfer in kept if transfer.signed is not None}
    found = []
    for line in lines:
        transfer = known.get(line.signature)
        if transfer is not None:
            found += _contradictions(transfer, line)
        elif line.signature not in target.known:
            landed = await first_answer(endpoints, lambda e, s=line.signature: e.transaction(s), line.signature)  # type: ignore[misc]  # the default binds the loop's value
            change = landed.changes.get(source, 0) if landed is not None else -1
            if change < 0:
                message = f"{line.signature} took {-change} lamports from the treasury, and no transfer did"
                found.append(Mismatch(kind="foreign", signature=line.signature, message=message))
    return found


def _contradictions(transfer: Transfer, line: Signature) -> list[Mismatch]:
    wrong = transfer.state in (TransferState.EXPIRED, TransferState.RELEASED)
    wrong = wrong or (transfer.state is TransferState.SETTLED and line.error != "")
    if not wrong:
        return []
    message = f"transfer {transfer.id} is {transfer.state}, and the chain shows {line.signature} in slot {line.slot}"
    return [Mismatch(kind="different", signature=line.signature, message=message)]


def _missing(lines: Sequence[Signature], kept: Sequence[Transfer], since: int) -> list[Mismatch]:
    shown = {line.signature for line in lines}
    oldest = min((line.slot for line in lines), default=None)
    found = []
    for transfer in kept:
        signed = transfer.signed
        paid = transfer.state is TransferState.SETTLED and signed is not None
        if not paid or signed is None or signed.signature in shown or (transfer.slot or 0) < since:
            continue
        if oldest is None or (transfer.slot or 0) >= oldest:
            message = f"transfer {transfer.id} is settled, and the chain does not show {signed.signature}"
            found.append(Mismatch(kind="missing", signature=signed.signature, message=message))
    return found
