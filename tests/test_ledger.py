"""Proves the arithmetic of money: no cap is passed by a lamport, no move is made twice, what is unproven counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import StateError
from remediator.ledger import (
    DAY,
    OPEN,
    Books,
    Caps,
    Mismatch,
    Signed,
    Spend,
    TooMuch,
    Transfer,
    TransferState,
    counts,
    decide,
    reserved,
    sol,
    too_much,
)

NOW = 1_000_000.0
CAPS = Caps(per_transfer=50, per_day=100, per_wallet_day=70, count_per_day=3, floor=1000)
SPEND = Spend(
    account="treasury", source="S", payee="minting", destination="D", amount=50, fee=5, balance=1055, slot=100,
    caps=CAPS,
)  # fmt: skip
SIGNED = Signed(signature="sig", raw="", lifetime="blockhash", last_valid=1, slot=1, fee=3, at=NOW)


def transfer(state: TransferState = TransferState.RESERVED, **more: Any) -> Transfer:
    """A transfer in a state, of one lamport to somebody else unless said otherwise."""
    base = reserved(replace(SPEND, amount=1, destination="E"), id="t", key="k", run_id="r", effect_id="e", change={},
                    now=NOW)  # fmt: skip
    closed = None if state in OPEN else NOW
    slot = 50 if state in (TransferState.SETTLED, TransferState.FAILED) else None
    return replace(base, **{"state": state, "closed_at": closed, "slot": slot, **more})


def reason(spend: Spend, *others: Transfer) -> str:
    """Why a spend is refused, or an empty string."""
    found = too_much(spend, others, NOW)
    return "" if found is None else found.reason


@pytest.mark.parametrize(
    ("spend", "others", "expected"),
    [
        ({}, (), ""),
        ({"amount": 51}, (), "cap_transfer"),
        ({"amount": 0}, (), "amount"),
        ({"amount": -1}, (), "amount"),
        ({"fee": -1}, (), "amount"),
        ({"balance": 1054}, (), "floor"),
        ({}, ({"amount": 50, "destination": "E"},), "floor"),
        ({"balance": 10**6}, ({"amount": 50},), ""),
        ({"balance": 10**6}, ({"amount": 51},), "cap_day"),
        ({"balance": 10**6}, ({"state": "live", "amount": 51},), "cap_day"),
        ({"balance": 10**6}, ({"state": "needs_human", "amount": 51},), "cap_day"),
        ({"balance": 10**6}, ({"state": "settled", "amount": 51},), "cap_day"),
        ({"balance": 10**6}, ({"state": "failed", "amount": 51},), ""),
        ({"balance": 10**6}, ({"state": "expired", "amount": 51},), ""),
        ({"balance": 10**6}, ({"state": "released", "amount": 51},), ""),
        ({"balance": 10**6}, ({"state": "settled", "amount": 20, "destination": "D"},), ""),
        ({"balance": 10**6}, ({"state": "settled", "amount": 21, "destination": "D"},), "cap_wallet"),
        ({"balance": 10**6}, ({}, {}, {}), "cap_count"),
        ({"balance": 10**6}, ({}, {}, {"state": "expired"}), ""),
        ({"balance": 10**6}, ({"state": "settled", "amount": 51, "closed_at": NOW - DAY},), ""),
        ({"balance": 10**6}, ({"state": "settled", "amount": 51, "closed_at": NOW - DAY + 1},), "cap_day"),
        ({"balance": 10**6}, ({"amount": 51, "reserved_at": NOW - 9 * DAY},), "cap_day"),
        ({"balance": 10**6}, ({"destination": "D"},), "in_flight"),
        ({"balance": 10**6}, ({"state": "live", "destination": "D"},), "in_flight"),
        ({"balance": 10**6}, ({"state": "needs_human", "destination": "D"},), "in_flight"),
        ({"balance": 10**6}, ({"state": "settled", "destination": "D", "slot": 101},), "stale"),
        ({"balance": 10**6}, ({"state": "settled", "destination": "D", "slot": 100},), ""),
        ({"balance": 10**6}, ({"state": "settled", "destination": "E", "slot": 101},), ""),
        # Another treasury pays the same wallet: one at a time too, but out of its own caps.
        ({"balance": 10**6}, ({"source": "T", "destination": "D"},), "in_flight"),
        ({"balance": 10**6}, ({"source": "T", "destination": "D", "state": "settled", "slot": 101},), "stale"),
        ({"balance": 1055}, ({"source": "T", "amount": 99}, {"source": "T"}, {"source": "T"}), ""),
        # What landed after the balance was read is not in it; what landed before is.
        ({"balance": 1061}, ({"state": "settled", "slot": 101, "fee": 5},), ""),
        ({"balance": 1060}, ({"state": "settled", "slot": 101, "fee": 5},), "floor"),
        ({"balance": 1055}, ({"state": "settled", "slot": 100, "fee": 5},), ""),
        ({"balance": 1060}, ({"state": "failed", "slot": 101, "fee": 5},), ""),
        ({"balance": 1059}, ({"state": "failed", "slot": 101, "fee": 5},), "floor"),
        ({"balance": 1061}, ({"state": "live", "fee": 5},), ""),
        ({"balance": 1060}, ({"state": "live", "fee": 5},), "floor"),
    ],
)
def test_the_first_lamport_over_a_bound_is_refused(
    spend: dict[str, Any], others: tuple[dict[str, Any], ...], expected: str
) -> None:
    """Every cap, the floor, a wallet that is being paid, balances read too early: exactly at the bound it goes."""
    made = [
        transfer(**{**other, "state": TransferState(other.get("state", "reserved")), "id": f"t{number}"})
        for number, other in enumerate(others)
    ]
    assert reason(replace(SPEND, **spend), *made) == expected


def test_a_full_window_says_when_it_has_room() -> None:
    """The refusal names the moment at which the oldest payment has left the day; what is open leaves at no moment."""
    full = [transfer(TransferState.SETTLED, id=f"t{n}", closed_at=NOW - 100 * n) for n in range(3)]
    refused = too_much(replace(SPEND, balance=10**6), full, NOW)
    assert refused is not None
    assert (refused.kind, refused.until) == ("hold", NOW - 200 + DAY)
    refused = too_much(replace(SPEND, balance=10**6), [transfer(id=f"t{n}") for n in range(3)], NOW)
    assert refused is not None
    assert refused.until is None


@given(
    st.lists(
        st.tuples(
            st.integers(1, 60), st.sampled_from("ABC"), st.integers(0, 3), st.sampled_from(["pay", "fail", "lose"])
        ),
        max_size=40,
    )
)
def test_whatever_is_asked_no_bound_is_passed(wishes: list[tuple[int, str, int, str]]) -> None:
    """Any sequence of wishes and ends: sums, counts, the floor and one open payment for each wallet hold throughout."""
    kept: list[Transfer] = []
    balance, slot = 1300, 100
    for number, (amount, wallet, close, end) in enumerate(wishes):
        asked = replace(SPEND, amount=amount, destination=wallet, balance=balance, slot=slot)
        if too_much(asked, [each for each in kept if counts(each, NOW, slot)], NOW) is None:
            kept.append(reserved(asked, id=f"{number}", key=f"{number}", run_id="r", effect_id="e", change={}, now=NOW))
        live = [each for each in kept if each.open]
        assert len({each.destination for each in live}) == len(live)
        assert sum(each.amount for each in kept if each.open or each.state is TransferState.SETTLED) <= CAPS.per_day
        assert sum(each.open or each.state is TransferState.SETTLED for each in kept) <= CAPS.count_per_day
        assert balance - sum(each.amount + each.fee for each in live) >= CAPS.floor
        for each in live[:close]:
            slot += 1
            signed = each.sign(replace(SIGNED, signature=each.id))
            paid, failed, lost = signed.settle(slot, NOW), signed.fail("no", slot, NOW), signed.expire("", NOW)
            done = {"pay": paid, "fail": failed, "lose": lost}[end]
            balance -= (done.amount if end == "pay" else 0) + (0 if end == "lose" else done.fee)
            kept[kept.index(each)] = done


MOVES: dict[str, Callable[[Transfer], Transfer]] = {
    "sign": lambda t: t.sign(SIGNED),
    "settle": lambda t: t.settle(7, NOW),
    "fail": lambda t: t.fail("no", 7, NOW),
    "expire": lambda t: t.expire("old", NOW),
    "doubt": lambda t: t.doubt("why"),
    "release": lambda t: t.release("over", NOW),
    "seen_as": lambda t: t.seen_as("other"),
}
ALLOWED = {
    ("reserved", "sign"): "live",
    ("reserved", "release"): "released",
    **{("live", move): end for move, end in
       {"settle": "settled", "fail": "failed", "expire": "expired", "doubt": "needs_human"}.items()},
    **{("needs_human", move): end for move, end in
       {"settle": "settled", "fail": "failed", "expire": "expired"}.items()},
}  # fmt: skip


@pytest.mark.parametrize("state", list(TransferState))
@pytest.mark.parametrize("move", MOVES)
def test_no_other_move_is_made(state: TransferState, move: str) -> None:
    """The table of moves is whole: nothing leaves a closed state, nothing is signed twice, doubt is not released."""
    signed = None if state in (TransferState.RESERVED, TransferState.RELEASED) else SIGNED
    before = transfer(state, signed=signed)
    end = ALLOWED.get((state.value, move))
    if end is None:
        with pytest.raises(StateError):
            MOVES[move](before)
        return
    after = MOVES[move](before)
    assert after.state.value == end
    assert (after.closed_at is None) == after.open
    assert (after.id, after.key, after.amount, after.version) == (before.id, before.key, before.amount, before.version)


def test_what_a_move_costs() -> None:
    """Paid and failed cost the fee that was signed, everything else nothing; more than was reserved is never signed."""
    live = transfer().sign(SIGNED)
    assert (live.settle(1, NOW).fee, live.fail("no", 1, NOW).fee, live.expire("old", NOW).fee) == (3, 3, 0)
    assert transfer().release("over", NOW).fee == 0
    assert transfer().sign(replace(SIGNED, fee=5)).signed is not None
    with pytest.raises(StateError):
        transfer().sign(replace(SIGNED, fee=6))
    with pytest.raises(StateError):
        transfer(signed=SIGNED).sign(SIGNED)


def test_a_signature_that_somebody_else_made_is_taken_once() -> None:
    """A transfer without a signature gets the one found on chain, and keeps it."""
    out = transfer().sign(replace(SIGNED, signature="")).seen_as("found")
    assert out.signed is not None
    assert (out.signed.signature, out.state) == ("found", TransferState.LIVE)
    with pytest.raises(StateError):
        out.seen_as("another")


@pytest.mark.parametrize("state", list(TransferState))
def test_one_step_pays_once(state: TransferState) -> None:
    """Under its key an open transfer goes on if it pays the same, a paid one refuses, an unpaid one is over."""
    spend = replace(SPEND, balance=10**6)
    mine = transfer(state, amount=50, destination="D", key="mine")
    answer = decide(spend, [mine], [], NOW)
    if state in OPEN:
        assert answer == mine
        for other in ({"amount": 49}, {"destination": "E"}, {"source": "T"}):
            refused = decide(replace(spend, **other), [mine], [], NOW)
            assert isinstance(refused, TooMuch)
            assert (refused.kind, refused.reason) == ("deny", "changed")
    elif state is TransferState.SETTLED:
        assert isinstance(answer, TooMuch)
        assert (answer.kind, answer.reason) == ("deny", "paid")
    else:
        assert answer is None


def test_what_must_be_told_is_told() -> None:
    """Open, closed within a day, or landed after the balance was read: the store leaves out nothing that counts."""
    assert all(counts(transfer(state, reserved_at=0.0), NOW, 100) for state in OPEN)
    old = transfer(TransferState.SETTLED, closed_at=NOW - DAY)
    assert not counts(old, NOW, 100)
    assert counts(replace(old, closed_at=NOW - DAY + 1), NOW, 100)
    assert counts(replace(old, slot=101), NOW, 100)


def test_sol_is_written_exactly() -> None:
    """No digit is lost and none is invented."""
    assert [sol(n) for n in (0, 1, 10**9, 1_500_000_000, 123_456_789_012, -5)] == [
        "0 SOL", "0.000000001 SOL", "1 SOL", "1.5 SOL", "123.456789012 SOL", "-0.000000005 SOL",
    ]  # fmt: skip


def test_books_match_only_when_they_were_compared() -> None:
    """A comparison that could not be made is no match."""
    assert Books("a").match
    assert not Books("a", error="silent").match
    assert not Books("a", (Mismatch(kind="foreign", signature="s", message="m"),)).match
