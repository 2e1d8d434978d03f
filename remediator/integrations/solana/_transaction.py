"""Builds the one transaction there is, and compares what was built, byte for byte, with what was planned.

The builder is the library's, the comparison is our own reading of the bytes: one may be wrong and no money moves.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import (
    AdvanceNonceAccountParams,
    TransferParams,
    advance_nonce_account,
    transfer,
)
from solders.transaction import VersionedTransaction

from remediator.errors import PermanentError

UNITS = 20_000
"""Compute units that are allowed and priced; a transfer with its memo takes about a thousand."""
BASE_FEE = 5_000
"""Lamports for the one signature."""
SYSTEM = "11111111111111111111111111111111"
BUDGET = "ComputeBudget111111111111111111111111111111"
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
BLOCKHASHES = "SysvarRecentB1ockHashes11111111111111111111"


class Payment(NamedTuple):
    """What a transaction must say, and nothing besides. ``nonce_account`` is empty where a blockhash bounds it."""

    source: str
    destination: str
    amount: int
    memo: str
    price: int
    blockhash: str
    nonce_account: str = ""

    @property
    def fee(self) -> int:
        """What it costs besides the amount: the signature, and the price of all units that it may use, rounded up."""
        return BASE_FEE + -(-self.price * UNITS // 1_000_000)


def price_within(price: int, most: int) -> int:
    """``price`` (micro-lamports a unit), lowered so far that the whole fee is at most ``most`` lamports."""
    return max(0, min(price, (most - BASE_FEE) * 1_000_000 // UNITS))


def build(payment: Payment) -> bytes:
    """The message to be signed."""
    source, destination = Pubkey.from_string(payment.source), Pubkey.from_string(payment.destination)
    instructions = [
        set_compute_unit_limit(UNITS),
        set_compute_unit_price(payment.price),
        transfer(TransferParams(from_pubkey=source, to_pubkey=destination, lamports=payment.amount)),
        Instruction(Pubkey.from_string(MEMO), payment.memo.encode(), [AccountMeta(source, True, False)]),
    ]
    if payment.nonce_account:
        nonce = Pubkey.from_string(payment.nonce_account)
        advance = advance_nonce_account(AdvanceNonceAccountParams(nonce_pubkey=nonce, authorized_pubkey=source))
        instructions.insert(0, advance)
    message = Message.new_with_blockhash(instructions, source, Hash.from_string(payment.blockhash))
    return bytes(message)


class _Read(NamedTuple):
    program: str
    accounts: tuple[str, ...]
    data: bytes


def _planned(payment: Payment) -> list[_Read]:
    """The instructions as they must stand in the bytes, written out by hand from the programs' documentation."""
    source = payment.source
    planned = [
        _Read(BUDGET, (), struct.pack("<BI", 2, UNITS)),
        _Read(BUDGET, (), struct.pack("<BQ", 3, payment.price)),
        _Read(SYSTEM, (source, payment.destination), struct.pack("<IQ", 2, payment.amount)),
        _Read(MEMO, (source,), payment.memo.encode()),
    ]
    if payment.nonce_account:
        accounts = (payment.nonce_account, BLOCKHASHES, source)
        planned.insert(0, _Read(SYSTEM, accounts, struct.pack("<I", 4)))
    return planned


def check(payment: Payment, message: bytes) -> None:
    """Raises PermanentError unless ``message`` says exactly ``payment``: payer, programs, accounts, amounts, order."""
    if payment.source == payment.destination or payment.amount <= 0:
        raise PermanentError("the treasury cannot pay itself, nor nothing", reason="mismatch")
    read = Message.from_bytes(message)
    keys = [str(key) for key in read.account_keys]
    found = [
        _Read(keys[each.program_id_index], tuple(keys[n] for n in bytes(each.accounts)), bytes(each.data))
        for each in read.instructions
    ]
    used = {key for each in found for key in (each.program, *each.accounts)}
    right = (
        bytes(read) == message
        and keys[0] == payment.source
        and read.header.num_required_signatures == 1
        and str(read.recent_blockhash) == payment.blockhash
        and set(keys) == used
        and found == _planned(payment)
    )
    if not right:
        raise PermanentError("the transaction that was built is not the one that was planned", reason="mismatch")


def signed(message: bytes, signature: bytes, address: str) -> tuple[bytes, str]:
    """The transaction and its signature in base58. Raises PermanentError if the signature is not ``address``'s."""
    mark = Signature.from_bytes(signature)
    if not mark.verify(Pubkey.from_string(address), message):
        raise PermanentError("the signer's answer is not a signature of the treasury", reason="signer")
    whole = VersionedTransaction.populate(Message.from_bytes(message), [mark])
    return bytes(whole), str(mark)
