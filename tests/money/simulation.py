"""One seed is one small disaster: several pods, owners that die and come back, a hostile cluster; and the judgement.

Everything that is random comes from the seed, and time passes only between two naps, so that a seed is a film that can
be shown again. What runs is the code of the product: ``Teller``, the moves of ``Transfer``, ``decide``.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from remediator import crashpoint
from remediator.errors import ActionError, Conflict, StateError, StoreUnavailable, TemporaryError
from remediator.integrations.solana._carry import QUORUM, Teller, every_answer
from remediator.ledger import Caps, Spend, TooMuch, Transfer, TransferState
from tests.money.chain import Cluster, Node, Pen
from tests.money.memory import MemoryLedger

SOL = 10**9
TARGET = 10 * SOL
_OWNERS = 5
HORIZON = 3_000.0
"""Seconds that are played; owners begin in the first few minutes."""
CAPS = Caps(per_transfer=6 * SOL, per_day=9 * SOL, per_wallet_day=8 * SOL, count_per_day=4, floor=5 * SOL)


class _Nap:
    """Sleep: what the scheduler sees of an await."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[float, None, None]:
        yield self.seconds


class Killed(BaseException):
    """SIGKILL at a crash point."""


@dataclass(slots=True)
class Life:
    """A process: it runs until it is killed, sleeps when it is stopped."""

    work: Coroutine[Any, Any, None]
    mortal: bool


@dataclass
class Film:
    """Everything of one seed."""

    seed: int
    teller: type[Teller] = Teller
    lock: bool = True
    random: random.Random = field(init=False)
    queue: list[tuple[float, int, Life]] = field(default_factory=list)
    count: int = 0
    deaths: int = 0
    epochs: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.cluster = Cluster(self.random)
        self.ledger = MemoryLedger(self.time, commit=self._commit)
        self.ledger.lock = self.lock
        self.loss = self.random.choice((0.0, 0.05, 0.3))
        self.mortality = self.random.choice((0.0, 0.002, 0.02))
        self.cluster.balances = {
            "treasury": self.random.choice((9 * SOL, 14 * SOL, 100 * SOL)),
            "w1": self.random.randint(0, 9 * SOL),
            "w2": self.random.randint(0, 9 * SOL),
        }
        self.floor = min(CAPS.floor, self.cluster.balances["treasury"])
        self.nodes = self._nodes()

    def _nodes(self) -> list[Node]:
        chance = self.random
        nodes = [
            Node(
                f"n{number}", self.cluster, _nap, lag=chance.choice((0, 0, 1, 10, 60, 140)),
                loss=self.loss, two_faces=chance.choice((0, 0, 0, 100, 700)),
                dark=[(begin := chance.random() * 600, begin + chance.random() * 900)] if chance.random() < 0.2 else (),
                first=chance.choice((0, 0, 0, 0, 10_400)),
            )
            for number in range(chance.choice((2, 3, 3)))
        ]  # fmt: skip
        if chance.random() < 0.3:
            liar = chance.choice(nodes)
            liar.lie = chance.choice(("height", "life", "paid", "absent"))
        return nodes

    # time

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.cluster.now

    now = monotonic = time

    def begin(self, work: Coroutine[Any, Any, None], at: float, *, mortal: bool = True) -> None:
        """A process that starts at ``at``."""
        self.count += 1
        heapq.heappush(self.queue, (at, self.count, Life(work, mortal)))

    async def _commit(self) -> None:
        await _Nap(self.random.random() * 0.05)
        if self.random.random() < 0.005:
            raise StoreUnavailable("the store is away")

    def play(self) -> Film:
        """The whole film."""
        crashpoint.on_passage(self._passage)
        try:
            for number in range(self.random.choice((1, 2, 2))):
                # Two pods report one wallet, or two wallets are low.
                wallet = self.random.choice(("w1", "w1", "w2"))
                self._cast(f"run-{number}", wallet)
            self.begin(self._keeper(), 600.0, mortal=False)
            while self.queue:
                at, _, life = heapq.heappop(self.queue)
                if at > HORIZON:
                    life.work.close()
                    continue
                self.cluster.advance(max(at, self.cluster.now))
                self._step(life)
        finally:
            crashpoint.on_passage(None)
            for _, _, life in self.queue:
                life.work.close()
        return self

    def _cast(self, key: str, wallet: str) -> None:
        """The owners of a run: one takes over when the lease of the one before is over, whether or not that is dead."""
        at = self.random.random() * 30
        for epoch in range(1, _OWNERS + 1):
            # The store never forgets a licence without an outcome: at last somebody lives long enough to close it.
            self.begin(self._owner(key, wallet, epoch), at, mortal=epoch < _OWNERS)
            at += self.random.choice((40.0, 90.0, 300.0))

    def _step(self, life: Life) -> None:
        chance = self.random
        self._mortal = life.mortal
        if life.mortal and chance.random() < self.mortality:
            if chance.random() < 0.5:
                self.deaths += 1
                life.work.close()
                return
            # SIGSTOP: it goes on much later and knows nothing of it.
            self.count += 1
            heapq.heappush(self.queue, (self.cluster.now + chance.choice((5.0, 60.0, 400.0)), self.count, life))
            return
        try:
            seconds = life.work.send(None)
        except StopIteration:
            return
        except Killed:
            self.deaths += 1
            return
        self.count += 1
        heapq.heappush(self.queue, (self.cluster.now + seconds, self.count, life))

    def _passage(self, name: str) -> None:
        if self._mortal and self.random.random() < self.mortality * 5:
            raise Killed(name)

    # the world around the teller: what engine and stores do, in short

    def _teller(self) -> Teller:
        return self.teller(
            ledger=self.ledger, endpoints=self.nodes, writer=Pen(self.cluster), clock=self,
            poll=self.random.choice((5.0, 20.0)), patience=600.0, sleep=_nap,
        )  # fmt: skip

    async def _owner(self, key: str, wallet: str, epoch: int) -> None:
        """An owner of a run, from its claim to its end."""
        if self.epochs.get(key, 0) > epoch:
            return  # Stopped before its claim, which is refused now.
        self.epochs[key] = epoch
        teller = self._teller()
        until = self.cluster.now + 120.0
        licence = f"{key}-{epoch}"
        for attempt in range(3):
            try:
                if await self._once(teller, key, wallet, f"{licence}-{attempt}", until):
                    return
            except (ActionError, Conflict, StateError, StoreUnavailable):
                pass
            self.ledger.conclude(f"{licence}-{attempt}")
            await _Nap(15.0)
        for licence in {transfer.effect_id for transfer in self.ledger.kept.values() if transfer.key == key}:
            self.ledger.conclude(licence)

    async def _once(self, teller: Teller, key: str, wallet: str, effect: str, until: float) -> bool:
        mine = await self.ledger.transfer_of(key)
        if mine is not None and mine.state is TransferState.SETTLED and self.ledger.lock:
            return True
        if mine is not None and mine.open and self.random.random() < 0.5:
            mine = await self._reconcile(teller, mine)
            if mine.open:
                return False
        if mine is not None and mine.open:
            amount, balance, slot = mine.amount, 10**18, 10**9
        else:
            amount, balance, slot = await self._diff(wallet)
        if amount <= 0:
            return True
        spend = Spend(
            account="treasury", source="treasury", payee=wallet, destination=wallet, amount=amount, fee=20_000,
            balance=balance, slot=slot, caps=CAPS,
        )  # fmt: skip
        if self.epochs[key] != int(effect.split("-")[2]) and self.ledger.lock:
            raise Conflict("another owner has the run")
        licence = self.ledger.reserve(spend, key=key, effect_id=effect)
        if isinstance(licence, TooMuch):
            return False
        await _Nap(0.01)

        def check() -> None:
            if self.cluster.now > until:
                raise TemporaryError("too late", reason="licence_expired")

        done = await teller.pay(licence, check)
        return done.state is TransferState.SETTLED

    async def _reconcile(self, teller: Teller, mine: Transfer) -> Transfer:
        if mine.state is TransferState.RESERVED:
            return await self.ledger.save_transfer(mine.release("interrupted", self.cluster.now), {})
        return await teller.look(mine)

    async def _diff(self, wallet: str) -> tuple[int, int, int]:
        there = await every_answer(self.nodes, lambda node: node.account(wallet))
        here = await every_answer(self.nodes, lambda node: node.account("treasury"))
        if min(len(there), len(here)) < QUORUM:
            raise TemporaryError("too few endpoints", reason="endpoints")
        amount = min(TARGET - max(account.lamports for account in there), CAPS.per_transfer)
        slot = min(account.slot for account in (*there, *here))
        return amount, min(account.lamports for account in here), slot

    async def _keeper(self) -> None:
        teller = self._teller()
        while True:
            for transfer in await self.ledger.transfers(open_only=True):
                try:
                    await teller.look(transfer)
                except (Conflict, StoreUnavailable):
                    continue
            await _Nap(400.0)

    # judgement

    def faults(self) -> list[str]:
        """Everything that must never be. Empty is good."""
        found = []
        paid: dict[str, int] = {}
        for sent in self.cluster.landed:
            transfer = self.ledger.kept.get(sent.transfer)
            if transfer is None:
                found.append(f"paid without a transfer: {sent.signature}")
                continue
            paid[transfer.key] = paid.get(transfer.key, 0) + 1
            known = transfer.signed is not None and transfer.signed.signature == sent.signature
            if transfer.state not in (TransferState.SETTLED, TransferState.NEEDS_HUMAN) or not known:
                found.append(f"silent: {sent.signature} landed, the ledger says {transfer.state}")
        found += [f"double: {key} paid {times} times" for key, times in paid.items() if times > 1]
        landed = {sent.signature for sent in self.cluster.landed}
        for transfer in self.ledger.kept.values():
            if transfer.state is TransferState.SETTLED and transfer.signed and transfer.signed.signature not in landed:
                found.append(f"silent loss: {transfer.id} is settled and never landed")
            if transfer.state in (TransferState.RESERVED, TransferState.LIVE):
                found.append(f"open end: {transfer.id} is {transfer.state}")
        found += [f"above plan: {w} has {self.cluster.balances[w]}" for w in ("w1", "w2") if self._above(w)]
        total = sum(sent.amount for sent in self.cluster.landed)
        if total > CAPS.per_day or any(sent.amount > CAPS.per_transfer for sent in self.cluster.landed):
            found.append(f"over a cap: {total}")
        if len(self.cluster.landed) > CAPS.count_per_day or self.cluster.lowest < self.floor:
            found.append(f"under the floor or over the count: {self.cluster.lowest}")
        return found

    def _above(self, wallet: str) -> bool:
        return self.cluster.balances[wallet] > TARGET


_nap = _Nap


def play(seed: int, teller: type[Teller] = Teller, *, lock: bool = True) -> Film:
    """The film of a seed, played to its end."""
    return Film(seed, teller, lock).play()
