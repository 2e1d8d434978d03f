"""What every store must do with money: caps to the lamport under a crowd, one signature, and no way back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from remediator.errors import Conflict, NotFound, StateError
from remediator.ledger import Caps, Signed, Spend, Transfer, TransferState
from remediator.run import State
from remediator.store import Claim, Licence, LicenceRequest, Refusal
from tests.stores.conformance.kit import T0, Bench, ref

SOL = 10**9
CAPS = Caps(per_transfer=5 * SOL, per_day=12 * SOL, per_wallet_day=8 * SOL, count_per_day=50, floor=20 * SOL)
SPEND = Spend(
    account="treasury", source="Treasury", payee="minting", destination="Wallet", amount=4 * SOL, fee=10_000,
    balance=100 * SOL, slot=1000, caps=CAPS,
)  # fmt: skip
SIGNED = Signed(signature="sig", raw="AQ==", lifetime="blockhash", last_valid=1300, slot=1000, fee=5_000, at=T0)


async def paid(bench: Bench) -> None:
    """A run that has paid and succeeded."""
    claim = await bench.running("money", ref("rule-money"))
    licence = await bench.store.licence(replace(bench.request(claim), spend=SPEND))
    assert isinstance(licence, Licence)
    transfer = await bench.store.transfer_of(f"{claim.run.id}-0")
    assert transfer is not None
    live = await bench.store.save_transfer(transfer.sign(SIGNED), {})
    await bench.store.save_transfer(live.settle(1100, bench.clock.at), {})
    await bench.concluded(licence)


class Money:
    """The verbs of ``Ledger``, and money in ``licence`` and ``conclude``."""

    def _ask(self, bench: Bench, claim: Claim, spend: Spend = SPEND, **asked: Any) -> LicenceRequest:
        return replace(bench.request(claim, **asked), spend=spend)

    async def _reserved(self, bench: Bench, name: str = "a", **change: Any) -> tuple[Licence, Transfer]:
        claim = await bench.running(name)
        licence = await bench.store.licence(self._ask(bench, claim, replace(SPEND, **change)))
        assert isinstance(licence, Licence), licence
        transfer = await bench.store.transfer_of(f"{claim.run.id}-0")
        assert transfer is not None
        return licence, transfer

    async def test_money_is_reserved_with_the_licence(self, bench: Bench) -> None:
        """Licence, reservation and both records are one commit; the transfer is as the spend said."""
        licence, transfer = await self._reserved(bench)
        assert (transfer.state, transfer.effect_id) == (TransferState.RESERVED, licence.effect_id)
        assert (transfer.amount, transfer.fee, transfer.source, transfer.destination) == (
            4 * SOL, 10_000, "Treasury", "Wallet",
        )  # fmt: skip
        assert transfer.reserved_at == T0
        assert (await bench.events(licence.run.id))[-2:] == ["effect.intent", "money.reserved"]
        assert await bench.store.transfer(transfer.id) == transfer
        assert list(await bench.store.transfers(source="Treasury", open_only=True)) == [transfer]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"amount": 5 * SOL + 1}, "cap_transfer"),
            ({"caps": replace(CAPS, per_day=4 * SOL - 1)}, "cap_day"),
            ({"caps": replace(CAPS, per_wallet_day=4 * SOL - 1)}, "cap_wallet"),
            ({"balance": 24 * SOL + 9_999}, "floor"),
            ({"amount": 0}, "amount"),
        ],
    )
    async def test_a_lamport_too_much_is_refused_and_writes_nothing(
        self, bench: Bench, change: dict[str, Any], reason: str
    ) -> None:
        """Each cap and the floor refuse at the first lamport over them; nothing is written, licensed or consumed."""
        claim = await bench.running()
        before = await bench.look(claim.run.id)
        answer = await bench.store.licence(self._ask(bench, claim, replace(SPEND, **change)))
        assert isinstance(answer, Refusal)
        assert answer.reason == reason
        assert await bench.look(claim.run.id) == before
        assert not await bench.store.transfers()

    async def test_a_crowd_cannot_exceed_a_cap(self, bench: Bench) -> None:
        """Two hundred licences at once, each for a wallet of its own: exactly twelve of twelve are reserved."""
        claims = [await bench.running(f"q{number}") for number in range(200)]
        spends = [replace(SPEND, destination=f"W{number}", amount=SOL) for number in range(200)]
        answers = await asyncio.gather(
            *(bench.store.licence(self._ask(bench, c, s)) for c, s in zip(claims, spends, strict=True))
        )
        given = [answer for answer in answers if isinstance(answer, Licence)]
        assert len(given) == 12
        kept = await bench.store.transfers()
        assert sum(transfer.amount for transfer in kept) == 12 * SOL
        refused = {answer.reason for answer in answers if isinstance(answer, Refusal)}
        assert refused == {"cap_day"}

    async def test_a_wallet_is_paid_once_at_a_time(self, bench: Bench) -> None:
        """While a payment to a wallet is open no other run may pay it; afterwards only upon newer balances."""
        _, transfer = await self._reserved(bench)
        other = await bench.running("b")
        answer = await bench.store.licence(self._ask(bench, other))
        assert isinstance(answer, Refusal)
        assert (answer.kind, answer.reason) == ("hold", "in_flight")
        elsewhere = await bench.store.licence(self._ask(bench, other, replace(SPEND, source="Another treasury")))
        assert isinstance(elsewhere, Refusal)
        assert elsewhere.reason == "in_flight"
        live = await bench.store.save_transfer(transfer.sign(SIGNED), {})
        await bench.store.save_transfer(live.settle(1100, bench.clock.at), {})
        answer = await bench.store.licence(self._ask(bench, other))
        assert isinstance(answer, Refusal)
        assert answer.reason == "stale"
        assert isinstance(await bench.store.licence(self._ask(bench, other, replace(SPEND, slot=1100))), Licence)

    async def test_a_step_pays_once(self, bench: Bench) -> None:
        """A new licence of a step goes on with its open transfer, and after that has paid there is none."""
        licence, transfer = await self._reserved(bench)
        live = await bench.store.save_transfer(transfer.sign(SIGNED), {})
        claim = Claim(licence.run, await bench.store.incident(licence.run.incident_id), ())
        again = await bench.store.licence(self._ask(bench, claim, attempt=2))
        assert isinstance(again, Licence)
        (kept,) = await bench.store.transfers()
        assert (kept.id, kept.effect_id, kept.signed) == (live.id, again.effect_id, SIGNED)
        other = self._ask(bench, Claim(again.run, claim.incident, ()), replace(SPEND, amount=SOL), attempt=3)
        changed = await bench.store.licence(other)
        assert isinstance(changed, Refusal)
        assert changed.reason == "changed"
        await bench.store.save_transfer(kept.settle(1100, bench.clock.at), {})
        paid = await bench.store.licence(self._ask(bench, Claim(again.run, claim.incident, ()), attempt=3))
        assert isinstance(paid, Refusal)
        assert (paid.kind, paid.reason) == ("deny", "paid")

    async def test_an_outcome_gives_back_what_nobody_signed(self, bench: Bench) -> None:
        """With the outcome of its licence a reservation is released; what was signed stays until it is proven."""
        licence, transfer = await self._reserved(bench)
        await bench.concluded(licence, State.FAILED, "failed")
        released = await bench.store.transfer(transfer.id)
        assert released.state is TransferState.RELEASED
        with pytest.raises(Conflict):
            await bench.store.save_transfer(transfer.sign(SIGNED), {})
        second, other = await self._reserved(bench, "b", destination="Other")
        live = await bench.store.save_transfer(other.sign(replace(SIGNED, signature="sig2")), {})
        await bench.concluded(second, State.FAILED, "unknown")
        assert (await bench.store.transfer(live.id)).state is TransferState.LIVE

    async def test_a_transfer_moves_by_version(self, bench: Bench) -> None:
        """Of two who move a transfer at once one is told that it came too late; the record says who won."""
        _, transfer = await self._reserved(bench)
        live = await bench.store.save_transfer(transfer.sign(SIGNED), {"why": "first"})
        assert live.version == transfer.version + 1
        moves = [live.settle(1100, T0), live.expire("too old", T0), live.fail("no", 1100, T0)]
        done = await asyncio.gather(
            *(bench.store.save_transfer(move, {}) for move in moves), return_exceptions=True
        )
        (won,) = [each for each in done if isinstance(each, Transfer)]
        assert sum(isinstance(each, Conflict) for each in done) == 2
        assert await bench.store.transfer(live.id) == won
        events = [event for event in await bench.events() if event.startswith("money.")]
        assert events == ["money.reserved", "money.live", f"money.{won.state}"]
        assert (await bench.verified()).ok

    async def test_there_is_no_second_signature(self, bench: Bench) -> None:
        """Neither the moves nor the store let a transfer be signed again, and no two have one signature."""
        _, transfer = await self._reserved(bench)
        live = await bench.store.save_transfer(transfer.sign(SIGNED), {})
        with pytest.raises(StateError):
            live.sign(replace(SIGNED, signature="other"))
        forged = replace(live, signed=replace(SIGNED, signature="other"))
        with pytest.raises(Exception, match=r"never changed"):
            await bench.store.save_transfer(forged, {})
        _, other = await self._reserved(bench, "b", destination="Other")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await bench.store.save_transfer(other.sign(SIGNED), {})
        assert (await bench.store.transfer(live.id)).signed == SIGNED

    async def test_a_window_of_a_day_ends_after_a_day(self, bench: Bench) -> None:
        """What was paid counts for a day from when it was closed, to the second; what is open counts longer."""
        _, transfer = await self._reserved(bench, amount=5 * SOL, destination="A")
        live = await bench.store.save_transfer(transfer.sign(SIGNED), {})
        await bench.store.save_transfer(live.settle(900, T0), {})
        await self._reserved(bench, "b", amount=5 * SOL, destination="B")
        asked = replace(SPEND, amount=5 * SOL, destination="C")
        claim = await bench.running("c", lease=200_000.0)
        full = await bench.store.licence(self._ask(bench, claim, asked))
        assert isinstance(full, Refusal)
        assert (full.reason, full.until) == ("cap_day", T0 + 86400)
        bench.clock.pass_(86399)
        assert isinstance(await bench.store.licence(self._ask(bench, claim, asked)), Refusal)
        bench.clock.pass_(1)
        assert isinstance(await bench.store.licence(self._ask(bench, claim, asked)), Licence)

    async def test_a_closing_step_never_spends(self, bench: Bench) -> None:
        """Steps that no limit counts, because they put something back, get no licence to pay."""
        claim = await bench.running()
        answer = await bench.store.licence(replace(self._ask(bench, claim), closing=True))
        assert isinstance(answer, Refusal)
        assert (answer.kind, answer.reason) == ("deny", "closing")

    async def test_what_is_not_there_is_not_found(self, bench: Bench) -> None:
        """Unknown transfers are NotFound, unknown keys are nothing, and lists are paged from the newest."""
        with pytest.raises(NotFound):
            await bench.store.transfer("nothing")
        assert await bench.store.transfer_of("nothing") is None
        made = [(await self._reserved(bench, f"q{n}", destination=f"W{n}", amount=SOL))[1] for n in range(3)]
        assert [t.id for t in await bench.store.transfers(limit=2)] == [made[2].id, made[1].id]
        assert [t.id for t in await bench.store.transfers(before=made[1].id)] == [made[0].id]
        assert not await bench.store.transfers(source="another")
