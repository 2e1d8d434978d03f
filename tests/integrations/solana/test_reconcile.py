"""Chain against ledger: whatever one has and the other has not is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from solders.hash import Hash
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from remediator.clock import SystemClock
from remediator.errors import PermanentError
from remediator.integrations.solana.reconcile import Reconcile
from remediator.ledger import TransferState
from remediator.probe import ProbeContext
from tests.integrations.solana.stages import SOL
from tests.integrations.solana.test_top_up import Till, till


async def _told(it: Till) -> list[str]:
    for _ in range(60):  # What landed last is finalized a moment later.
        await it.it.chain.quiet()
        it.it.chain.jump += 1
    context = ProbeContext(run_id="run-1", clock=SystemClock(), ledger=it.ledger)
    seen = await Reconcile().read(it.target, context)
    assert seen["matches"] == (not seen["mismatches"])
    return [each["kind"] for each in seen["mismatches"]]


def _steal(it: Till, lamports: int = SOL) -> str:
    pair = it.it.treasury
    thief = transfer(TransferParams(from_pubkey=pair.pubkey(), to_pubkey=Pubkey.new_unique(), lamports=lamports))
    blockhash = Hash.from_string(it.it.chain.blockhash(it.it.chain.slot))
    it.it.chain.land(bytes(VersionedTransaction(Message.new_with_blockhash([thief], pair.pubkey(), blockhash), [pair])))
    return it.it.chain.landed[-1].signature


async def test_books_that_match(tmp_path: Path) -> None:
    """An empty ledger has nothing to compare; after a payment the two agree; what is known beforehand stays so."""
    async with till(tmp_path) as it:
        _steal(it)
        it.it.chain.jump += 100
        assert await _told(it) == []
        await it.pay()
        assert await _told(it) == []


async def test_a_foreign_payment_is_found_on_the_next_pass(tmp_path: Path) -> None:
    """Money that left the treasury by another hand is a mismatch until a person lists it as known."""
    async with till(tmp_path) as it:
        await it.pay()
        signature = _steal(it)
        assert await _told(it) == ["foreign"]
        it.target = it.target.model_copy(update={"known": [signature]})
        assert await _told(it) == []
        await it.target.close()


async def test_the_settings_say_where_the_books_begin(tmp_path: Path) -> None:
    """With `since`, a payment before the first transfer of the ledger counts as well."""
    async with till(tmp_path, since=1) as it:
        _steal(it)
        assert await _told(it) == ["foreign"]


async def test_a_payment_that_is_not_on_chain_is_found(tmp_path: Path) -> None:
    """A ledger that says paid where the chain shows nothing, or the reverse, is a mismatch."""
    async with till(tmp_path) as it:
        await it.pay()
        right = it.one
        assert right.signed is not None
        it.ledger.kept[right.id] = replace(right, state=TransferState.EXPIRED)
        assert await _told(it) == ["different"]
        other = replace(right.signed, signature="1" * 88)
        it.ledger.kept[right.id] = replace(right, signed=other)
        assert sorted(await _told(it)) == ["foreign", "missing"]


async def test_without_a_ledger_nothing_is_compared(tmp_path: Path) -> None:
    """Unknown is no: without a ledger the probe fails instead of finding nothing wrong."""
    async with till(tmp_path) as it:
        with pytest.raises(PermanentError):
            await Reconcile().read(it.target, ProbeContext(run_id="", clock=SystemClock()))
        assert Reconcile().needs() == {"wallets": "treasury"}
