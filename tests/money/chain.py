"""A simulated cluster: blocks, endpoints that lag, lie, forget and fall silent, and transactions that may land late.

Nothing here waits: an endpoint awaits ``nap``, and whoever drives the coroutines decides what that means.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from remediator.errors import TemporaryError
from remediator.integrations.solana._carry import Draft, Life, blockhash_life
from remediator.integrations.solana._chain import (
    BLOCKHASH_LIFE,
    Account,
    ChainError,
    Endpoint,
    Epoch,
    Landed,
    Latest,
    Signature,
    Status,
)
from remediator.ledger import Signed, Transfer

SLOT = 0.4
"""Seconds of a slot; every slot has a block here, so heights are slots."""
FINAL = 32
"""Blocks until one is finalized."""
START = 10_000

Nap = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Sent:
    """A transaction that some endpoint took."""

    signature: str
    transfer: str
    destination: str
    amount: int
    fee: int
    last_valid: int
    arrives: float
    """When it reaches a leader; infinity if it is lost."""
    slot: int | None = None
    error: str = ""


@dataclass(slots=True)
class Cluster:
    """The truth: time, balances, and what landed where."""

    random: random.Random
    now: float = 0.0
    balances: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    landed: list[Sent] = field(default_factory=list)
    waiting: list[Sent] = field(default_factory=list)
    lowest: int = 2**63

    @property
    def slot(self) -> int:
        """The newest slot."""
        return START + int(self.now / SLOT)

    def take(self, sent: Sent) -> None:
        """A leader may see it later, or never; a copy of what landed changes nothing."""
        known = self.sent.setdefault(sent.signature, sent)
        if known.slot is None:
            known.arrives = min(known.arrives, sent.arrives)
            if known not in self.waiting:
                self.waiting.append(known)

    def advance(self, now: float) -> None:
        """Let what has arrived land, or drop it where its blockhash is too old."""
        self.now = now
        for sent in [sent for sent in self.waiting if sent.arrives <= now]:
            self.waiting.remove(sent)
            at = START + int(sent.arrives / SLOT)
            if at <= sent.last_valid and sent.slot is None:
                self._land(sent, at)

    def _land(self, sent: Sent, at: int) -> None:
        source = self.balances["treasury"]
        sent.slot = at
        self.balances["treasury"] -= sent.fee
        if source < sent.amount + sent.fee:
            sent.error = '{"InstructionError":[3,{"Custom":1}]}'
        else:
            self.balances["treasury"] -= sent.amount
            self.balances[sent.destination] += sent.amount
            self.landed.append(sent)
        self.lowest = min(self.lowest, self.balances["treasury"])


@dataclass(slots=True)
class Node:
    """One endpoint of the cluster with its faults. ``lie`` is what it gives wrong answers about, or empty."""

    name: str
    cluster: Cluster
    nap: Nap
    lag: int = 0
    first: int = 0
    lie: str = ""
    loss: float = 0.0
    """How often an answer is lost on its way back."""
    dark: Sequence[tuple[float, float]] = ()
    two_faces: int = 0
    """A pool behind one address: every second answer is of a node that lags so much more."""
    asked: int = 0

    async def _slot(self) -> int:
        self.asked += 1
        await self.nap(self.cluster.random.random() * 0.5)
        now = self.cluster.now
        if any(begin <= now < end for begin, end in self.dark) or self.cluster.random.random() < self.loss:
            raise ChainError(self.name, "no answer", reason="unanswered")
        return self.cluster.slot - self.lag - (self.two_faces if self.asked % 2 else 0)

    async def genesis(self) -> str:
        await self._slot()
        return "genesis"

    async def epoch(self) -> Epoch:
        final = await self._slot() - FINAL
        return Epoch(final, final + 100_000 if self.lie == "height" else final)

    async def first_block(self) -> int:
        await self._slot()
        return self.first

    async def latest(self) -> Latest:
        slot = await self._slot() - 2
        return Latest(str(slot), slot + (5 if self.lie == "life" else BLOCKHASH_LIFE))

    async def account(self, address: str) -> Account:
        slot = await self._slot() - FINAL
        # The balance as it was in that slot: what landed later is taken back.
        lamports = self.cluster.balances[address]
        for sent in self.cluster.sent.values():
            if sent.slot is not None and sent.slot > slot:
                paid = 0 if sent.error else sent.amount
                lamports += paid + sent.fee if address == "treasury" else -paid * (address == sent.destination)
        return Account(lamports, "system", False, b"", slot)

    async def status(self, signature: str) -> Status:
        slot = await self._slot()
        sent = self.cluster.sent.get(signature)
        if self.lie == "paid":
            return Status(slot, True, True, slot - FINAL)
        if self.lie == "absent" or sent is None or sent.slot is None or sent.slot > slot or sent.slot < self.first:
            return Status(slot, False)
        return Status(slot, True, sent.slot <= slot - FINAL, sent.slot, sent.error)

    async def price(self, addresses: Sequence[str]) -> int:
        await self._slot()
        return self.cluster.random.choice((0, 1000, 10**12))

    async def simulate(self, raw: bytes) -> str:
        await self._slot()
        return ""

    async def send(self, raw: bytes) -> None:
        signature, transfer, destination, amount, fee, blockhash = raw.decode().split("|")
        slot = await self._slot()
        chance = self.cluster.random
        delay = chance.choice((0.4, 1.0, 5.0, 30.0, 59.0, 75.0, float("inf"), float("inf")))
        if self.lie:
            delay = chance.choice((0.4, 50.0, float("inf")))
        del slot
        sent = Sent(
            signature, transfer, destination, int(amount), int(fee), int(blockhash) + BLOCKHASH_LIFE,
            self.cluster.now + delay,
        )  # fmt: skip
        self.cluster.take(sent)
        if chance.random() < self.loss:
            raise ChainError(self.name, "no answer", reason="unanswered")

    async def history(self, address: str, *, before: str = "", limit: int = 1000) -> Sequence[Signature]:
        await self._slot()
        return []

    async def transaction(self, signature: str) -> Landed | None:
        await self._slot()
        return None


@dataclass(slots=True)
class Pen:
    """A writer whose transactions are text: what simulated nodes can read."""

    cluster: Cluster
    most: int = 20_000
    written: int = 0

    async def life(self, endpoints: Sequence[Endpoint]) -> Life:
        return await blockhash_life(endpoints)

    async def write(self, transfer: Transfer, life: Life, price: int) -> Draft:
        self.written += 1
        fee = min(5_000 + price, self.most)
        if self.cluster.random.random() < 0.01:
            raise TemporaryError("the signer is away", reason="signer")
        # Ed25519 is deterministic: the same content has the same signature.
        signature = f"s-{transfer.id}-{life.blockhash}-{fee}"
        raw = f"{signature}|{transfer.id}|{transfer.destination}|{transfer.amount}|{fee}|{life.blockhash}"
        return Draft(raw.encode(), signature, fee)

    async def spent(self, endpoint: Endpoint, signed: Signed) -> int | None:
        return None
