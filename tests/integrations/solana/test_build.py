"""The transaction and its comparison: whatever is not exactly the plan is refused before it can be signed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from remediator.errors import PermanentError
from remediator.integrations.solana import _transaction
from remediator.integrations.solana._transaction import BASE_FEE, Payment, build, check, price_within, signed
from remediator.integrations.solana._units import base58, lamports, unbase58
from remediator.ledger import sol

TREASURY, WALLET = Keypair(), str(Pubkey.new_unique())
PLAN = Payment(
    source=str(TREASURY.pubkey()), destination=WALLET, amount=1_500_000_000, memo="remediator:01k",
    price=1000, blockhash=str(Hash.new_unique()),
)  # fmt: skip


def test_what_is_built_is_what_was_planned() -> None:
    """The builder of the library and our own reading of its bytes agree, with and without a nonce."""
    for plan in (PLAN, PLAN._replace(nonce_account=str(Pubkey.new_unique()))):
        check(plan, build(plan))


@pytest.mark.parametrize(
    "other",
    [
        {"destination": str(Pubkey.new_unique())},
        {"amount": 1_500_000_001},
        {"amount": 15_000_000_000},
        {"memo": "remediator:01m"},
        {"price": 1001},
        {"blockhash": str(Hash.new_unique())},
        {"source": str(Pubkey.new_unique())},
        {"nonce_account": str(Pubkey.new_unique())},
    ],
    ids=str,
)
def test_every_difference_is_seen(other: dict[str, Any]) -> None:
    """Another wallet, amount, memo, price, life or payer in the bytes is refused, whichever of the two is wrong."""
    changed = PLAN._replace(**other)
    with pytest.raises(PermanentError) as caught:
        check(PLAN, build(changed))
    assert caught.value.reason == "mismatch"
    with pytest.raises(PermanentError):
        check(changed, build(PLAN))


def test_something_more_is_seen() -> None:
    """A second transfer, an account more, or a second signer in an otherwise right transaction is refused."""
    source = TREASURY.pubkey()
    right = Message.from_bytes(build(PLAN))
    programs = list(right.account_keys)
    own = [
        Instruction(
            programs[each.program_id_index], bytes(each.data),
            [
                AccountMeta(programs[n], right.is_signer(n), n < len(programs) - 3)
                for n in bytes(each.accounts)
            ],
        )
        for each in right.instructions
    ]  # fmt: skip
    thief = transfer(TransferParams(from_pubkey=source, to_pubkey=Pubkey.new_unique(), lamports=1))
    more = [*own[-1].accounts, AccountMeta(Pubkey.new_unique(), True, False)]
    witness = Instruction(own[-1].program_id, own[-1].data, more)
    blockhash = Hash.from_string(PLAN.blockhash)
    for steps in ([*own, thief], [thief, *own], [*own[:-1], witness], own[:-1], own[::-1]):
        with pytest.raises(PermanentError):
            check(PLAN, bytes(Message.new_with_blockhash(steps, source, blockhash)))
    with pytest.raises(PermanentError):
        check(PLAN, build(PLAN) + b"\0")


def test_nobody_else_is_asked_to_sign_and_no_account_is_carried_along() -> None:
    """The same instructions with the wallet as a second signer, or with an account that none of them names: refused."""
    right = Message.from_bytes(build(PLAN))
    keys, head = list(right.account_keys), right.header
    bystander = Message.new_with_compiled_instructions(
        head.num_required_signatures, head.num_readonly_signed_accounts, head.num_readonly_unsigned_accounts,
        [*keys, Pubkey.new_unique()], right.recent_blockhash, right.instructions,
    )  # fmt: skip
    second = Message.new_with_compiled_instructions(
        2, head.num_readonly_signed_accounts, head.num_readonly_unsigned_accounts, keys, right.recent_blockhash,
        right.instructions,
    )  # fmt: skip
    for wrong in (bystander, second):
        with pytest.raises(PermanentError) as caught:
            check(PLAN, bytes(wrong))
        assert caught.value.reason == "mismatch"


def test_the_treasury_cannot_pay_itself_or_nothing() -> None:
    """A transfer to oneself and one of nothing are refused, even where they are what was planned."""
    for plan in (PLAN._replace(destination=PLAN.source), PLAN._replace(amount=0)):
        with pytest.raises(PermanentError):
            check(plan, build(plan))


def test_only_the_treasurys_signature_is_taken() -> None:
    """A signature of another key, of another message, or of nobody never becomes a transaction."""
    message = build(PLAN)
    for mark in (bytes(Keypair().sign_message(message)), bytes(TREASURY.sign_message(message + b"\0")), b"\0" * 64):
        with pytest.raises(PermanentError) as caught:
            signed(message, mark, PLAN.source)
        assert caught.value.reason == "signer"
    raw, name = signed(message, bytes(TREASURY.sign_message(message)), PLAN.source)
    assert raw.endswith(message)
    assert unbase58(name, 64) == raw[1:65]


@given(price=st.integers(0, 2**64 - 1), most=st.integers(BASE_FEE, 10**9))
def test_the_fee_never_exceeds_its_bound(price: int, most: int) -> None:
    """However high the market's price is, the whole fee stays within what was reserved."""
    plan = PLAN._replace(price=price_within(price, most))
    assert BASE_FEE <= plan.fee <= most
    assert plan.price <= price


@given(st.integers(0, 2**63 - 1))
def test_amounts_are_exact(value: int) -> None:
    """Every number of lamports is written and read back without losing one."""
    assert lamports(sol(value)) == value
    assert lamports(f"{value} lamports") == value


@pytest.mark.parametrize(
    "text",
    [
        "1.0000000001 SOL", "1e-9 SOL", "1e9 SOL", "-1 SOL", "+1 SOL", " 1 SOL", "1 SOL ", "1SOL", "1 sol", "1,5 SOL",
        ".5 SOL", "1. SOL", "0x10 SOL", "NaN SOL", "Infinity SOL", "１ SOL", "1", "", "99999999999 SOL",
        "9223372036854775808 lamports", "1 SOL; DROP", "1_000 SOL",
    ],
)  # fmt: skip
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    """Rounding, exponents, signs, other digits and missing units have no place in money."""
    with pytest.raises(ValueError, match="SOL"):
        lamports(text)


@given(st.binary(min_size=32, max_size=32))
def test_base58_is_the_librarys(data: bytes) -> None:
    """Our reading of addresses and the library's are the same, both ways."""
    assert base58(data) == str(Pubkey.from_bytes(data))
    assert unbase58(base58(data), 32) == data


def test_the_programs_are_the_known_ones() -> None:
    """The four programs that a payment may name."""
    assert {_transaction.SYSTEM, _transaction.BUDGET, _transaction.MEMO} == {
        "11111111111111111111111111111111",
        "ComputeBudget111111111111111111111111111111",
        "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
    }
