"""Paying a wallet on a real virtual machine behind real endpoints that fail in every documented way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from solders.pubkey import Pubkey

from remediator.action import ActionContext, Change, Happened
from remediator.clock import SystemClock
from remediator.errors import PermanentError, StoreUnavailable, TemporaryError
from remediator.integrations.solana.target import SolanaTarget
from remediator.integrations.solana.top_up import TopUp, Unsettled
from remediator.ledger import Spend, TooMuch, Transfer, TransferState
from tests.integrations.corpus import PAYLOADS
from tests.integrations.solana.chain import Cluster, cluster
from tests.integrations.solana.stages import SOL, treasury, wallet
from tests.money.memory import MemoryLedger

WISH = {"wallet": "minting", "to_balance": "5 SOL"}


@dataclass
class Till:
    """A cluster, a treasury, a ledger, and a wallet that has one SOL and should have five."""

    it: Cluster
    target: SolanaTarget
    address: str
    ledger: MemoryLedger
    action: TopUp = field(default_factory=lambda: TopUp.model_validate(WISH))

    def context(self, key: str = "run-1.0", *, seconds: float = 60.0) -> ActionContext:
        """The context of a licensed step."""
        clock = SystemClock()
        return ActionContext(
            run_id="run-1", step="step0", attempt=1, key=key, clock=clock, deadline=clock.monotonic() + seconds,
            ledger=self.ledger,
        )  # fmt: skip

    async def change(self, key: str = "run-1.0") -> Change:
        """The difference, as it comes back from the store."""
        return Change.from_json((await self.action.diff(self.target, self.context(key))).as_json())

    def reserve(self, change: Change, key: str = "run-1.0", effect: str = "e1") -> Transfer | TooMuch:
        """The reservation of a licence."""
        spend = self.action.spend(self.target, change)
        return self.ledger.reserve(spend, key=key, effect_id=effect, change=change.as_json())

    async def pay(self, key: str = "run-1.0", *, within: float = 10.0, seconds: float = 60.0) -> Any:
        """Look, reserve, pay."""
        change = await self.change(key)
        found = self.reserve(change, key)
        assert isinstance(found, Transfer), found
        async with asyncio.timeout(within):
            return await self.action.apply(self.target, change, self.context(key, seconds=seconds))

    async def dies(self, when: Callable[[], bool]) -> None:
        """Look, reserve, begin to pay, and die at the moment ``when`` says."""
        work = asyncio.ensure_future(self.pay())
        async with asyncio.timeout(20.0):
            while not when():
                await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.sleep(0.05)  # What had left before still arrives.

    @property
    def one(self) -> Transfer:
        """The one transfer there is."""
        (transfer,) = self.ledger.kept.values()
        return transfer

    @property
    def balance(self) -> int:
        """What the wallet has."""
        return self.it.chain.balance(self.address)

    async def reconcile(self, *, rounds: int = 200, key: str = "run-1.0") -> Happened:
        """Look back until something is proven, as the engine does while the licence is open."""
        change = await self.change(key)
        for _ in range(rounds):
            try:
                return await self.action.reconcile(self.target, change, self.context(key))
            except TemporaryError:
                await asyncio.sleep(0.02)
        raise AssertionError(f"nothing was proven: {self.ledger.kept}")


@asynccontextmanager
async def till(tmp_path: Path, *, nodes: int = 3, treasury_has: int = 100 * SOL, **more: Any) -> AsyncIterator[Till]:
    """A till on a cluster whose slots take three milliseconds."""
    async with cluster(nodes=nodes, slot_time=0.003, treasury=treasury_has) as it:
        address = wallet(it)
        target = treasury(it, tmp_path, address, **more)
        found = Till(it, target, address, MemoryLedger(SystemClock().now))
        try:
            yield found
        finally:
            await found.target.close()
            await target.close()


async def test_a_wallet_is_filled_exactly(tmp_path: Path) -> None:
    """From look to finalized: the balance is the plan to the lamport, the memo is the transfer, the fee is bounded."""
    async with till(tmp_path) as it:
        it.it.chain.price = 10**12
        outcome = await it.pay()
        assert it.balance == 5 * SOL
        (landed,) = it.it.chain.landed
        assert (landed.memo, landed.signature) == (f"remediator:{it.one.id}", outcome.data["signature"])
        assert landed.fee == it.one.fee <= it.target.max_fee
        assert it.one.state is TransferState.SETTLED
        assert it.one.slot == landed.slot
        assert [name for _, name, _ in it.ledger.events] == ["money.live", "money.settled"]
        assert (await it.change("run-2.0")).empty


async def test_the_signature_is_kept_before_anything_leaves(tmp_path: Path) -> None:
    """When the ledger cannot keep the signature, not a byte of the transaction is sent."""
    async with till(tmp_path) as it:
        change = await it.change()
        it.reserve(change)

        async def broken() -> None:
            raise StoreUnavailable("the store is away")

        it.ledger.commit = broken
        with pytest.raises(StoreUnavailable):
            await it.action.apply(it.target, change, it.context())
        assert not it.it.chain.arrived
        assert it.balance == SOL


Fault = Callable[[Till], None]


def _lost_reply(it: Till) -> None:
    for node in it.it.nodes:
        node.lose = lambda method: method == "sendTransaction"


def _late(it: Till) -> None:
    it.it.chain.late = 0.25


def _lag(it: Till) -> None:
    it.it.nodes[0].lag = 60


def _liar_absent(it: Till) -> None:
    it.it.nodes[0].lie["getSignatureStatuses"] = lambda right: {**right, "value": [None]}


def _liar_height(it: Till) -> None:
    it.it.nodes[0].lie["getEpochInfo"] = lambda right: {**right, "blockHeight": 10**9}
    _liar_absent(it)


def _limited(it: Till) -> None:
    it.it.nodes[0].raw = lambda method: (429, "text/plain", b"slow down")


def _doubled(it: Till) -> None:
    node = it.it.nodes[0]
    take = it.it.chain.take

    def thrice(raw: bytes) -> None:
        for _ in range(3):
            take(raw)

    node.chain.take = thrice  # type: ignore[method-assign]  # the network doubles what it carries


def _drops_first(it: Till) -> None:
    chain = it.it.chain
    chain.drop = lambda raw: len(chain.arrived) < 9


def _pruned(it: Till) -> None:
    it.it.nodes[0].first = 10**9


@pytest.mark.parametrize(
    "fault",
    [_lost_reply, _late, _lag, _liar_absent, _liar_height, _limited, _doubled, _drops_first, _pruned],
    ids=lambda fault: fault.__name__.strip("_"),
)
async def test_one_fault_neither_doubles_nor_loses_a_payment(tmp_path: Path, fault: Fault) -> None:
    """Lost replies, late landing, copies, one endpoint that lags, lies, forgets or refuses: paid once, and known."""
    async with till(tmp_path) as it:
        fault(it)
        await it.pay()
        await it.it.chain.quiet()
        assert it.balance == 5 * SOL
        assert len(it.it.paid(it.address)) == 1
        assert it.one.state is TransferState.SETTLED
        assert len(set(it.it.chain.arrived)) == 1, "only the same bytes are ever sent"


async def test_expiry_needs_two_proofs_and_a_new_licence(tmp_path: Path) -> None:
    """What never landed is proven by two endpoints; the money is free again, and a new licence pays once."""
    async with till(tmp_path) as it:
        it.it.chain.drop = lambda raw: True
        with pytest.raises(TemporaryError) as caught:
            await it.pay()
        assert caught.value.reason == "expired"
        assert it.one.state is TransferState.EXPIRED
        it.ledger.conclude("e1")
        it.it.chain.drop = lambda raw: False
        for raw in set(it.it.chain.arrived):
            it.it.chain.land(raw)  # What expired cannot land any more.
        assert it.balance == SOL
        await it.pay()
        assert it.balance == 5 * SOL


@pytest.mark.parametrize("fault", [_lag, _pruned, _limited])
async def test_one_endpoint_cannot_prove_an_expiry(tmp_path: Path, fault: Fault) -> None:
    """With two endpoints of which one lags, forgets or refuses nothing is proven, and nothing is signed again."""
    async with till(tmp_path, nodes=2, patience="1s") as it:
        it.it.chain.drop = lambda raw: True
        change = await it.change()
        it.reserve(change)
        with pytest.raises((Unsettled, TimeoutError)):
            async with asyncio.timeout(1.6):
                work = asyncio.ensure_future(it.action.apply(it.target, change, it.context()))
                while it.one.state is TransferState.RESERVED:
                    await asyncio.sleep(0.01)
                if fault is _lag:
                    it.it.nodes[0].lag = 10**6
                else:
                    fault(it)
                await work
        assert it.one.state in (TransferState.LIVE, TransferState.NEEDS_HUMAN)
        assert len(set(it.it.chain.arrived)) == 1
        assert isinstance(it.reserve(change, key="run-2.0", effect="e2"), TooMuch)


async def test_one_liar_cannot_make_a_payment(tmp_path: Path) -> None:
    """An endpoint that says "finalized" of what never landed closes nothing; in time a person is called."""
    async with till(tmp_path, nodes=2, patience="1s") as it:
        it.it.chain.drop = lambda raw: True
        paid = {"slot": 1100, "confirmations": None, "err": None, "confirmationStatus": "finalized"}
        it.it.nodes[0].lie["getSignatureStatuses"] = lambda right: {**right, "value": [paid]}
        with pytest.raises(Unsettled):
            await it.pay()
        assert it.one.state is TransferState.NEEDS_HUMAN
        assert "landed" in it.one.reason
        assert await it.reconcile() is Happened.UNKNOWN
        del it.it.nodes[0].lie["getSignatureStatuses"]
        assert await it.reconcile() is Happened.NO


async def test_a_failure_on_chain_is_no_payment(tmp_path: Path) -> None:
    """A treasury that was emptied between look and landing: only the fee is gone, and it is said so."""
    async with till(tmp_path) as it:
        change = await it.change()
        it.reserve(change)
        chain = it.it.chain
        real = chain.take

        def poor(raw: bytes) -> None:
            account = chain.vm.get_account(it.it.treasury.pubkey())
            assert account is not None
            if account.lamports > 2 * SOL:
                from solders.account import Account

                chain.vm.set_account(it.it.treasury.pubkey(), Account(SOL, account.data, account.owner, False, 0))
            real(raw)

        chain.take = poor  # type: ignore[method-assign]  # somebody spends the treasury at the worst moment
        with pytest.raises(PermanentError) as caught:
            await it.action.apply(it.target, change, it.context())
        assert caught.value.reason == "failed_on_chain"
        assert (it.one.state, it.balance) == (TransferState.FAILED, SOL)


async def test_a_poor_treasury_is_seen_before_signing(tmp_path: Path) -> None:
    """What the cluster, asked beforehand, would refuse is neither kept nor sent, and it certainly did not happen."""
    async with till(tmp_path, treasury_has=2 * SOL) as it:
        change = await it.change()
        spend = replace(it.action.spend(it.target, change), balance=10**12)
        assert isinstance(it.ledger.reserve(spend, key="run-1.0", effect_id="e1"), Transfer)
        with pytest.raises(PermanentError) as caught:
            await it.action.apply(it.target, change, it.context())
        assert caught.value.reason == "simulation"
        assert not it.it.chain.arrived
        assert it.one.state is TransferState.RESERVED


async def test_an_endpoint_that_does_not_know_the_blockhash_yet(tmp_path: Path) -> None:
    """Asked beforehand, an endpoint that lags knows no fresh blockhash: nothing is kept, and trying again may help."""
    async with till(tmp_path) as it:
        it.it.nodes[0].lie["simulateTransaction"] = lambda right: {**right, "value": {"err": "BlockhashNotFound"}}
        with pytest.raises(TemporaryError) as caught:
            await it.pay()
        assert caught.value.reason == "blockhash"
        assert it.one.state is TransferState.RESERVED
        assert not it.it.chain.arrived


async def test_somebody_else_paid_meanwhile(tmp_path: Path) -> None:
    """A wallet that was filled by another hand between look and licence is looked at anew, and nothing is signed."""
    async with till(tmp_path) as it:
        change = await it.change()
        it.reserve(change)
        it.it.chain.fund(it.address, 3 * SOL)
        with pytest.raises(TemporaryError) as caught:
            await it.action.apply(it.target, change, it.context())
        assert caught.value.reason == "changed"
        assert not it.it.chain.arrived


async def test_nothing_is_signed_after_the_licence(tmp_path: Path) -> None:
    """A licence that ran out while the key was fetched: nothing is kept and nothing is sent."""
    async with till(tmp_path) as it:
        with pytest.raises(TemporaryError) as caught:
            await it.pay(seconds=-1.0)
        assert caught.value.reason == "licence_expired"
        assert it.one.state is TransferState.RESERVED


async def test_nothing_is_sent_after_the_licence(tmp_path: Path) -> None:
    """A licence that ran out between the keeping of the signature and the sending: not a byte leaves any more."""
    async with till(tmp_path) as it:
        change = await it.change()
        it.reserve(change)
        context = it.context()
        clock = _Stops()
        context = replace(context, clock=clock, deadline=clock.monotonic() + 60.0)

        async def kept() -> None:
            clock.late = 1000.0 if it.one.state is TransferState.LIVE else 0.0

        it.ledger.commit = kept
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await it.action.apply(it.target, change, context)
        assert it.one.state is TransferState.LIVE
        assert not it.it.chain.arrived


class _Stops(SystemClock):
    """A clock on which much time passes at once: the process was stopped."""

    late = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.late


async def test_what_was_sent_is_followed_after_the_licence(tmp_path: Path) -> None:
    """A licence that runs out after the sending stops the sending and not the looking."""
    async with till(tmp_path) as it:
        it.it.chain.late = 0.2
        await it.pay(seconds=0.15)
        assert it.balance == 5 * SOL


@pytest.mark.parametrize("lands", [True, False])
async def test_after_a_crash_the_chain_is_asked_and_nothing_is_sent(tmp_path: Path, lands: bool) -> None:
    """Dead after sending: yes when it landed, no when it is proven that it never will; and never a new byte."""
    async with till(tmp_path) as it:
        it.it.chain.drop = lambda raw: not lands
        await it.dies(lambda: bool(it.it.chain.arrived))
        sent = len(it.it.chain.arrived)
        assert await it.reconcile() is (Happened.YES if lands else Happened.NO)
        assert len(it.it.chain.arrived) == sent
        assert it.balance == (5 if lands else 1) * SOL


async def test_a_crash_before_signing_gives_the_money_back(tmp_path: Path) -> None:
    """Reserved and never signed: released, so that the owner that died cannot sign any more if it wakes up."""
    async with till(tmp_path) as it:
        change = await it.change()
        it.reserve(change)
        asleep = it.one
        assert await it.reconcile() is Happened.NO
        assert it.one.state is TransferState.RELEASED
        with pytest.raises(PermanentError) as caught:
            await it.action.apply(it.target, change, it.context())
        assert caught.value.reason == "not_reserved"
        assert asleep.version < it.one.version


async def test_a_new_owner_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    """Licensed again while the first transaction is out: the change is the same, and the same bytes are sent again."""
    async with till(tmp_path) as it:
        it.it.chain.drop = lambda raw: True
        await it.dies(lambda: bool(it.it.chain.arrived))
        it.it.chain.drop = lambda raw: False
        again = await it.change()
        assert again.after["lamports"] == 4 * SOL
        assert isinstance(it.reserve(again, effect="e2"), Transfer)
        await it.action.apply(it.target, again, it.context())
        assert len(set(it.it.chain.arrived)) == 1
        assert (it.balance, it.one.state) == (5 * SOL, TransferState.SETTLED)
        assert isinstance(it.reserve(again, effect="e3"), TooMuch), "a step that has paid never pays again"


async def test_a_durable_nonce_bounds_the_life(tmp_path: Path) -> None:
    """With a nonce the transaction lives on; another one on the same nonce is proven dead by the account itself."""
    async with till(tmp_path) as it:
        nonce = it.it.chain.nonce(it.it.treasury)
        it.target = it.target.model_copy(update={"nonce_account": nonce})
        it.it.chain.drop = lambda raw: True
        await it.dies(lambda: bool(it.it.chain.arrived))
        late = it.it.chain.arrived[0]
        it.it.chain.jump += 1000
        with pytest.raises(AssertionError, match="nothing was proven"):
            await it.reconcile(rounds=3)
        it.it.chain.drop = lambda raw: False
        it.it.chain.land(late)
        assert await it.reconcile() is Happened.YES
        await it.target.close()


async def test_others_sign_what_is_shown(tmp_path: Path) -> None:
    """Exported and unsigned: what somebody signs and sends with the transfer's memo settles it."""
    async with till(tmp_path) as it:
        nonce = it.it.chain.nonce(it.it.treasury)
        address = str(it.it.treasury.pubkey())
        more = {"signer": {"export": True, "address": address}, "nonce_account": nonce}
        target = treasury(it.it, tmp_path, it.address, **more)
        await it.target.close()
        it.target = target
        await it.dies(lambda: bool(it.ledger.kept) and it.one.state is TransferState.LIVE)
        assert it.one.signed is not None
        assert it.one.signed.signature == ""
        assert not it.it.chain.arrived
        _sign_elsewhere(it)
        assert await it.reconcile() is Happened.YES
        assert it.balance == 5 * SOL


def _sign_elsewhere(it: Till) -> None:
    import base64

    from solders.message import Message
    from solders.transaction import VersionedTransaction

    assert it.one.signed is not None
    message = Message.from_bytes(base64.b64decode(it.one.signed.raw))
    it.it.chain.land(bytes(VersionedTransaction(message, [it.it.treasury])))


async def test_only_an_ordinary_other_wallet_is_paid(tmp_path: Path) -> None:
    """The treasury itself, an account that is not there, and one of a program are refused before any reservation."""
    async with till(tmp_path) as it:
        wallets = {
            "self": str(it.it.treasury.pubkey()),
            "nobody": str(Pubkey.new_unique()),
            "program": "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
        }
        target = treasury(it.it, tmp_path, it.address, wallets=wallets)
        for name, reason in (("self", "self"), ("nobody", "no_account"), ("program", "not_a_wallet")):
            with pytest.raises(PermanentError) as caught:
                await TopUp.model_validate({"wallet": name, "amount": "1 SOL"}).diff(target, it.context())
            assert caught.value.reason == reason
        await target.close()


@pytest.mark.parametrize("payload", [*PAYLOADS[::7], str(Pubkey.new_unique()), "9" * 100, "minting\u200b", "mintіng"])
def test_a_label_never_names_another_wallet(payload: str) -> None:
    """Whatever a label holds instead of a wallet's name is refused by its form, or is no name the settings know."""
    try:
        action = TopUp.model_validate({"wallet": payload, "amount": "1 SOL"})
    except ValidationError:
        return
    assert action.needs() == {"wallets": payload}
    target = SolanaTarget(cluster="devnet", rpc_urls=["https://one.example.com", "https://two.example.com"])
    with pytest.raises(PermanentError):
        target.wallet(payload)


@pytest.mark.parametrize(
    "wish",
    [
        {}, {"amount": "1 SOL", "to_balance": "1 SOL"}, {"amount": 1}, {"amount": 1.5}, {"amount": "0 SOL"},
        {"amount": "-1 SOL"}, {"amount": "1e9 SOL"}, {"amount": "18446744073709551616 lamports"}, {"amount": True},
    ],
)  # fmt: skip
def test_a_wish_is_one_exact_amount(wish: dict[str, Any]) -> None:
    """Nothing, both, numbers without a unit, nothing at all, and huge or negative amounts are refused."""
    with pytest.raises(ValidationError):
        TopUp.model_validate({"wallet": "minting", **wish})
    assert TopUp.literal == {"amount", "to_balance"}


async def test_a_key_of_somebody_else_signs_nothing(tmp_path: Path) -> None:
    """A keypair that is not the treasury of the settings is refused before anything is reserved."""
    async with till(tmp_path) as it:
        signer = {"keypair_file": str(tmp_path / "treasury.json"), "address": it.address}
        target = treasury(it.it, tmp_path, it.address, signer=signer)
        with pytest.raises(PermanentError) as caught:
            await it.action.diff(target, it.context())
        assert caught.value.reason == "signer"
        await target.close()


def test_spending_is_declared() -> None:
    """Without caps there is no spend, and so no licence."""
    target = SolanaTarget(cluster="devnet", rpc_urls=["https://one.example.com", "https://two.example.com"])
    with pytest.raises(PermanentError):
        TopUp.model_validate(WISH).spend(target, Change(summary="", before={}, after={}))
    assert Spend.__doc__
