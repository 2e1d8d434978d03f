"""Money: what a licence reserves, the only moves of a transfer, the caps, and the port to where both are kept.

Pure but for the port. A ``Transfer`` is a reservation with at most one signed transaction, ever; the stores write what
these functions return and add no rule of their own (docs/adr/0008-money.md). Amounts are whole lamports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from remediator.errors import StateError

DAY = 86400.0
"""Caps "per day" look back this many seconds."""


class TransferState(StrEnum):
    """Where a transfer is. The first three are open: their money counts as spent until something is proven."""

    RESERVED = "reserved"
    """Nothing was signed. Only a licence that is open keeps it so."""
    LIVE = "live"
    """Signed: it may land at any moment, until it is proven that it cannot."""
    NEEDS_HUMAN = "needs_human"
    """Signed, and the chain's answers prove nothing: nobody signs again, a person looks."""
    SETTLED = "settled"
    """Paid, finalized."""
    FAILED = "failed"
    """Finalized with an error: only the fee was paid."""
    EXPIRED = "expired"
    """It can never land."""
    RELEASED = "released"
    """Given back before anything was signed."""


OPEN = frozenset((TransferState.RESERVED, TransferState.LIVE, TransferState.NEEDS_HUMAN))
SIGNED = frozenset((TransferState.LIVE, TransferState.NEEDS_HUMAN))
"""Open, and a signature is out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """The most that may leave one source. None means no bound; ``floor`` is what must stay there."""

    per_transfer: int
    per_day: int
    per_wallet_day: int | None = None
    count_per_day: int
    floor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What one licence would reserve. ``balance`` of the source was read at ``finalized``, and no balance that led to
    the amount before ``slot``."""

    account: str
    """The target that holds the source."""
    source: str
    payee: str
    """The name of the wallet in the settings."""
    destination: str
    amount: int
    fee: int
    """The most that the fee may be."""
    balance: int
    slot: int
    caps: Caps


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A signed transaction as it is kept before its first byte leaves.

    It is past its life once a finalized block is higher than ``last_valid`` (``lifetime`` blockhash), or once the
    account ``nonce_account`` no longer holds ``nonce``. What somebody else signs has no ``signature`` until it is seen.
    """

    signature: str
    raw: str
    """Base64 of the transaction; of its message where somebody else signs."""
    lifetime: str
    last_valid: int
    slot: int
    """The finalized slot just before signing: whoever has no history so far back can prove nothing."""
    fee: int
    at: float
    nonce_account: str = ""
    nonce: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """One payment, from its reservation to its proof. Immutable; the moves return the transfer after the move.

    ``key`` is that of the step (``ActionContext.key``); ``version`` is what a write compares.
    """

    id: str
    key: str
    run_id: str
    effect_id: str
    account: str
    source: str
    payee: str
    destination: str
    amount: int
    fee: int
    """The most that it may cost besides; what it did cost once it is closed."""
    change: Mapping[str, Any]
    state: TransferState = TransferState.RESERVED
    reason: str = ""
    reserved_at: float
    closed_at: float | None = None
    signed: Signed | None = None
    slot: int | None = None
    """Where it landed."""
    version: int = 1

    @property
    def open(self) -> bool:
        """Whether its money still counts as spent without proof."""
        return self.state in OPEN

    def _from(self, *states: TransferState) -> None:
        if self.state not in states:
            raise StateError(f"transfer {self.id} is {self.state}; it would have to be {' or '.join(states)}")

    def sign(self, signed: Signed) -> Transfer:
        """With its one signature. Raises StateError unless it is reserved and was never signed."""
        self._from(TransferState.RESERVED)
        if self.signed is not None:
            raise StateError(f"transfer {self.id} was signed before; there is no second signature")
        if signed.fee > self.fee:
            raise StateError(f"transfer {self.id} would cost {signed.fee} lamports, and {self.fee} were reserved")
        return replace(self, state=TransferState.LIVE, signed=signed)

    def seen_as(self, signature: str) -> Transfer:
        """With the signature that somebody else gave it and that was found on chain."""
        self._from(*SIGNED)
        if self.signed is None or self.signed.signature:
            raise StateError(f"transfer {self.id} has a signature already")
        return replace(self, signed=replace(self.signed, signature=signature))

    def settle(self, slot: int, now: float) -> Transfer:
        """Paid: finalized without an error."""
        self._from(*SIGNED)
        return replace(self, state=TransferState.SETTLED, reason="", slot=slot, fee=self._fee, closed_at=now)

    def fail(self, reason: str, slot: int, now: float) -> Transfer:
        """Finalized with an error: the amount stayed, the fee is gone."""
        self._from(*SIGNED)
        return replace(self, state=TransferState.FAILED, reason=reason, slot=slot, fee=self._fee, closed_at=now)

    @property
    def _fee(self) -> int:
        return self.fee if self.signed is None else self.signed.fee

    def expire(self, reason: str, now: float) -> Transfer:
        """Proven that it can never land."""
        self._from(*SIGNED)
        return replace(self, state=TransferState.EXPIRED, reason=reason, fee=0, closed_at=now)

    def doubt(self, reason: str) -> Transfer:
        """A person must look; what the chain proves later still closes it."""
        self._from(TransferState.LIVE)
        return replace(self, state=TransferState.NEEDS_HUMAN, reason=reason)

    def release(self, reason: str, now: float) -> Transfer:
        """Given back, because nothing was signed and nothing will be."""
        self._from(TransferState.RESERVED)
        return replace(self, state=TransferState.RELEASED, reason=reason, fee=0, closed_at=now)


class TooMuch(NamedTuple):
    """Why a reservation is refused; ``until`` is when a window will have room, None when nobody can say."""

    kind: str
    reason: str
    message: str
    until: float | None = None


def sol(lamports: int) -> str:
    """Lamports as SOL, exactly: ``1.5 SOL``."""
    sign, whole = ("-" if lamports < 0 else ""), abs(lamports)
    text = f"{whole // 10**9}.{whole % 10**9:09}".rstrip("0").rstrip(".")
    return f"{sign}{text} SOL"


def counts(other: Transfer, now: float, slot: int) -> bool:
    """Whether ``too_much`` must be told of ``other``: open, closed within a day, or not in the balance yet."""
    return other.open or (other.closed_at or now) > now - DAY or (other.slot or 0) > slot


def too_much(spend: Spend, others: Iterable[Transfer], now: float) -> TooMuch | None:
    """Why ``spend`` may not be reserved beside ``others``; None: it may.

    ``others`` are the transfers of its source or to its destination that ``counts``. What is open counts whole, however
    old; what was paid counts for a day after it was closed. The balance lacks what is open and what landed after it was
    read.
    """
    caps, others = spend.caps, list(others)
    if spend.amount <= 0 or spend.fee < 0:
        return TooMuch("deny", "amount", "only a positive amount can be paid")
    if spend.amount > caps.per_transfer:
        return TooMuch("deny", "cap_transfer", f"{sol(spend.amount)} is over per_transfer, {sol(caps.per_transfer)}")
    paying = next((other for other in others if other.open and other.destination == spend.destination), None)
    if paying is not None:
        return TooMuch("hold", "in_flight", f"transfer {paying.id} to {spend.payee} is not over yet")
    later = next((other for other in others if other.destination == spend.destination and _after(other, spend)), None)
    if later is not None:
        return TooMuch("hold", "stale", f"the balances were read before transfer {later.id} landed")
    others = [other for other in others if other.source == spend.source]
    return _over_day(spend, others, now) or _under_floor(spend, others)


def _after(other: Transfer, spend: Spend) -> bool:
    return other.state == TransferState.SETTLED and (other.slot or 0) > spend.slot


def _over_day(spend: Spend, others: Sequence[Transfer], now: float) -> TooMuch | None:
    caps = spend.caps
    spent = [o for o in others if o.open or (o.state == TransferState.SETTLED and (o.closed_at or now) > now - DAY)]
    mine = [other for other in spent if other.destination == spend.destination]
    if len(spent) >= caps.count_per_day:
        message = f"{len(spent)} transfers within a day; count_per_day is {caps.count_per_day}"
        return TooMuch("hold", "cap_count", message, _room(spent))
    for reason, name, cap, counted in (
        ("cap_day", "per_day", caps.per_day, spent),
        ("cap_wallet", "per_wallet_day", caps.per_wallet_day, mine),
    ):
        total = sum(other.amount for other in counted)
        if cap is not None and total + spend.amount > cap:
            message = f"{sol(total)} within a day and {sol(spend.amount)} more are over {name}, {sol(cap)}"
            return TooMuch("hold", reason, message, _room(counted))
    return None


def _room(counted: Sequence[Transfer]) -> float | None:
    closed = [other.closed_at for other in counted if other.closed_at is not None]
    return min(closed) + DAY if closed else None


def _under_floor(spend: Spend, others: Sequence[Transfer]) -> TooMuch | None:
    gone = 0
    for other in others:
        if other.open or _after(other, spend):
            gone += other.amount + other.fee
        elif other.state == TransferState.FAILED and (other.slot or 0) > spend.slot:
            gone += other.fee
    left = spend.balance - gone - spend.amount - spend.fee
    if left < spend.caps.floor:
        message = f"{sol(left)} would be left, and floor is {sol(spend.caps.floor)}"
        return TooMuch("hold", "floor", message)
    return None


def reserved(
    spend: Spend, *, id: str, key: str, run_id: str, effect_id: str, change: Mapping[str, Any], now: float
) -> Transfer:
    """The transfer that a licence writes for ``spend``."""
    return Transfer(
        id=id, key=key, run_id=run_id, effect_id=effect_id, account=spend.account, source=spend.source,
        payee=spend.payee, destination=spend.destination, amount=spend.amount, fee=spend.fee, change=change,
        reserved_at=now,
    )  # fmt: skip


def decide(
    spend: Spend, mine: Iterable[Transfer], others: Iterable[Transfer], now: float
) -> Transfer | TooMuch | None:
    """What a licence for ``spend`` does: go on with a transfer, refuse, or (None) reserve a new one.

    ``mine`` are the transfers under its key, ``others`` those that ``too_much`` must be told of.
    """
    for transfer in mine:
        if transfer.state is TransferState.SETTLED:
            return TooMuch("deny", "paid", f"this step has paid already (transfer {transfer.id})")
        if transfer.open:
            wanted = (spend.source, spend.destination, spend.amount)
            if (transfer.source, transfer.destination, transfer.amount) == wanted:
                return transfer
            return TooMuch("deny", "changed", f"this step is paying something else (transfer {transfer.id})")
    return too_much(spend, others, now)


class Ledger(Protocol):
    """Where transfers are kept. Every verb is one transaction; all raise StoreUnavailable."""

    async def transfer_of(self, key: str) -> Transfer | None:
        """The newest transfer under the key of a step, or None."""
        ...

    async def transfer(self, transfer_id: str) -> Transfer:
        """One transfer. Raises NotFound."""
        ...

    async def transfers(
        self, *, source: str = "", open_only: bool = False, before: str = "", limit: int = 1000
    ) -> Sequence[Transfer]:
        """Transfers, newest first, that sort before the id ``before``."""
        ...

    async def save_transfer(self, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
        """Write a moved transfer and its audit record ``money.<state>`` with ``detail``.

        Raises Conflict when the version in the store is another one; nothing is written then.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """Something that is on the chain and not in the ledger, or the reverse."""

    kind: str
    """``foreign`` (a payment nobody reserved), ``missing`` (paid in the ledger only), ``different``."""
    signature: str
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Books(NamedTuple):
    """What a comparison of one target found; ``error`` says why it could not be made."""

    target: str
    mismatches: Sequence[Mismatch] = ()
    error: str = ""

    @property
    def match(self) -> bool:
        """Whether it was made and nothing differs: unknown is no."""
        return not self.error and not self.mismatches
