"""``solana.top_up``: pay SOL from the treasury to a named wallet, exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import ActionError, Conflict, PermanentError, StateError, TemporaryError
from remediator.integrations.solana._chain import SYSTEM_PROGRAM, Account
from remediator.integrations.solana._treasury import balances, teller
from remediator.integrations.solana._units import Lamports
from remediator.integrations.solana.target import SolanaTarget, WalletName
from remediator.ledger import Ledger, Spend, Transfer, TransferState, sol


class Unsettled(Exception):
    """A signed transaction is out: it may have landed, it may still land."""


class TopUp(Action[SolanaTarget]):
    """Pays SOL from the treasury of the target to one of its named wallets, up to a balance or a fixed amount.

    The wallet's address, the key, the caps and the endpoints stand in the settings; a rule can only choose among them.
    """

    effect: ClassVar[Effect] = Effect.KEYED
    literal: ClassVar[frozenset[str]] = frozenset({"to_balance", "amount"})

    wallet: WalletName = Field(description="The name of the wallet in the settings of the target.")
    to_balance: Lamports | None = Field(
        default=None, gt=0, description="Pay what is missing to this balance, such as `5 SOL`; nothing if none is."
    )
    amount: Lamports | None = Field(default=None, gt=0, description="Pay exactly this, such as `1.5 SOL`.")

    @model_validator(mode="after")
    def _one_wish(self) -> TopUp:
        if (self.to_balance is None) == (self.amount is None):
            raise ValueError("write to_balance or amount, exactly one of them")
        return self

    def needs(self) -> Mapping[str, str]:
        """The wallet must be permitted."""
        return {"wallets": self.wallet}

    def subject(self) -> str:
        """``wallet/<name>``: one run pays a wallet at a time, however many report it."""
        return f"wallet/{self.wallet}"

    async def diff(self, target: SolanaTarget, context: ActionContext) -> Change:
        """What would be paid, worked out once: while a transfer of this step is open, the change is what it pays.

        Raises PermanentError, TemporaryError.
        """
        mine = await _ledger(context).transfer_of(context.key)
        if mine is not None and mine.open:
            return Change.from_json(mine.change)
        address, source = target.wallet(self.wallet), await target.treasury()
        if address == source:
            raise PermanentError(f'wallet "{self.wallet}" is the treasury itself', reason="self")
        endpoints = await target.same_cluster()
        there = await balances(endpoints, address)
        here = await balances(endpoints, source)
        _payable(self.wallet, there)
        # Where endpoints differ, the wallet is taken to be as rich and the treasury as poor as any of them says.
        balance = max(account.lamports for account in there)
        amount = self.amount if self.amount is not None else max(0, (self.to_balance or 0) - balance)
        return _change(
            target,
            wallet=self.wallet,
            address=address,
            source=source,
            amount=amount,
            read={
                "balance": balance,
                "treasury": min(account.lamports for account in here),
                "slot": min(account.slot for account in (*there, *here)),
            },
        )

    def spend(self, target: SolanaTarget, change: Change) -> Spend:
        """What the licence must reserve. Raises PermanentError where nothing may be paid."""
        if target.caps is None:
            raise PermanentError(f'target "{target.name}" has no caps, so nothing can be paid', reason="caps")
        return Spend(
            account=target.name,
            source=str(change.after["from"]),
            payee=self.wallet,
            destination=str(change.after["to"]),
            amount=int(change.after["lamports"]),
            fee=target.max_fee,
            balance=int(change.volatile["treasury"]),
            slot=int(change.volatile["slot"]),
            caps=target.caps.bounds(),
        )

    async def apply(self, target: SolanaTarget, change: Change, context: ActionContext) -> Outcome:
        """Carry the transfer that the licence reserved to its end.

        Raises Unsettled while a signature is out and nothing is proven, and what stops it before anything is signed.
        """
        ledger = _ledger(context)
        transfer = await ledger.transfer_of(context.key)
        if transfer is None or transfer.state in (TransferState.RELEASED, TransferState.EXPIRED, TransferState.FAILED):
            raise PermanentError("no money is reserved for this step", reason="not_reserved")
        if transfer.state is TransferState.RESERVED:
            context.check_deadline()
            await self._still_wanted(target, change, transfer)
        try:
            carrier = await teller(target, ledger, context.clock)
            transfer = await carrier.pay(transfer, context.check_deadline)
        except ActionError as error:
            moved = await ledger.transfer(transfer.id)
            if moved.state is TransferState.RESERVED:
                raise
            raise Unsettled(f"transfer {transfer.id} is {moved.state}: {error}") from error
        return _outcome(transfer)

    async def _still_wanted(self, target: SolanaTarget, change: Change, transfer: Transfer) -> None:
        """Nothing is signed if the plan is another one, or if somebody else paid since it was made."""
        if (transfer.destination, transfer.amount) != (change.after["to"], change.after["lamports"]):
            raise PermanentError("what was reserved is not what was shown", reason="changed")
        there = await balances(await target.same_cluster(), transfer.destination)
        if max(account.lamports for account in there) > int(change.volatile["balance"]):
            message = f'wallet "{self.wallet}" was paid by somebody else meanwhile; it is looked at anew'
            raise TemporaryError(message, reason="changed")

    async def reconcile(self, target: SolanaTarget, change: Change, context: ActionContext) -> Happened:
        """What the ledger and the chain prove. Sends nothing; gives back what was reserved and never signed.

        Raises TemporaryError while nothing is proven.
        """
        ledger = _ledger(context)
        transfer = await ledger.transfer_of(context.key)
        if transfer is None:
            return Happened.NO
        try:
            if transfer.state is TransferState.RESERVED:
                released = transfer.release("interrupted before anything was signed", context.clock.now())
                transfer = await ledger.save_transfer(released, {})
            elif transfer.open:
                transfer = await (await teller(target, ledger, context.clock)).look(transfer)
        except (Conflict, StateError):
            raise TemporaryError(f"transfer {transfer.id} is being moved", reason="conflict") from None
        if transfer.state is TransferState.LIVE:
            raise TemporaryError(f"transfer {transfer.id} is out and nothing is proven yet", reason="unsettled")
        if transfer.state is TransferState.NEEDS_HUMAN:
            return Happened.UNKNOWN
        return Happened.YES if transfer.state is TransferState.SETTLED else Happened.NO


def _ledger(context: ActionContext) -> Ledger:
    if context.ledger is None:
        raise PermanentError("there is no ledger here, and without one nothing is paid", reason="no_ledger")
    return context.ledger


def _payable(wallet: str, accounts: Sequence[Account]) -> None:
    """Raises PermanentError unless every endpoint shows an ordinary wallet."""
    for account in accounts:
        if not account.owner:
            message = f'wallet "{wallet}" has no account on chain; pay something to a new wallet by hand once'
            raise PermanentError(message, reason="no_account")
        if account.owner != SYSTEM_PROGRAM or account.executable or account.data:
            message = f'wallet "{wallet}" is no ordinary wallet but an account of program {account.owner}'
            raise PermanentError(message, reason="not_a_wallet")


def _change(
    target: SolanaTarget, *, wallet: str, address: str, source: str, amount: int, read: Mapping[str, int]
) -> Change:
    same = {"wallet": wallet, "to": address, "from": source, "cluster": target.cluster}
    summary = f'pay {sol(amount)} from {target.name or "the treasury"} to wallet "{wallet}" ({address})'
    if not amount:
        summary = f'wallet "{wallet}" ({address}) has {sol(read["balance"])}; nothing to pay'
    return Change(
        summary=summary,
        before={**same, "lamports": 0},
        after={**same, "lamports": amount},
        volatile=dict(read),
    )


def _outcome(transfer: Transfer) -> Outcome:
    signature = "" if transfer.signed is None else transfer.signed.signature
    if transfer.state is TransferState.SETTLED:
        return Outcome(
            summary=f"paid {sol(transfer.amount)} to {transfer.payee} ({signature})",
            data={
                "transfer": transfer.id,
                "signature": signature,
                "lamports": transfer.amount,
                "fee": transfer.fee,
                "slot": transfer.slot,
            },
        )
    if transfer.state is TransferState.FAILED:
        raise PermanentError(f"transfer {transfer.id} failed, {transfer.reason}", reason="failed_on_chain")
    if transfer.state in (TransferState.EXPIRED, TransferState.RELEASED):
        raise TemporaryError(f"transfer {transfer.id} did not land: {transfer.reason}", reason=transfer.state.value)
    raise Unsettled(f"transfer {transfer.id} is {transfer.state}: {transfer.reason}")
