"""A ledger in memory that keeps the same promises as the stores: for simulations and for stages of actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.errors import Conflict, NotFound
from remediator.ledger import Spend, TooMuch, Transfer, TransferState, counts, decide, reserved


async def _at_once() -> None:
    return None


class MemoryLedger:
    """Transfers by id. ``commit`` is awaited around every write, so that a simulation can stop there.

    ``lock`` False leaves out what keeps two payments of one need apart: a mutant that the simulation must catch.
    """

    def __init__(self, now: Callable[[], float], *, commit: Callable[[], Awaitable[None]] = _at_once) -> None:
        self.now = now
        self.commit = commit
        self.kept: dict[str, Transfer] = {}
        self.events: list[tuple[str, str, Mapping[str, Any]]] = []
        self.over: set[str] = set()
        """Licences that have an outcome."""
        self.lock = True

    async def transfer_of(self, key: str) -> Transfer | None:
        """The newest transfer under a key."""
        found = [transfer for transfer in self.kept.values() if transfer.key == key]
        return max(found, key=lambda transfer: transfer.id, default=None)

    async def transfer(self, transfer_id: str) -> Transfer:
        """One transfer."""
        if transfer_id not in self.kept:
            raise NotFound(f'there is no transfer "{transfer_id}"')
        return self.kept[transfer_id]

    async def transfers(
        self, *, source: str = "", open_only: bool = False, before: str = "", limit: int = 1000
    ) -> Sequence[Transfer]:
        """Transfers, newest first."""
        found = [
            transfer
            for transfer in self.kept.values()
            if (not source or transfer.source == source)
            and (transfer.open or not open_only)
            and (not before or transfer.id < before)
        ]
        return sorted(found, key=lambda transfer: transfer.id, reverse=True)[:limit]

    async def save_transfer(self, transfer: Transfer, detail: Mapping[str, Any]) -> Transfer:
        """Write by version."""
        await self.commit()
        if self.kept[transfer.id].version != transfer.version:
            raise Conflict(f"transfer {transfer.id} has moved on")
        kept = replace(transfer, version=transfer.version + 1)
        self.kept[transfer.id] = kept
        self.events.append((transfer.id, f"money.{transfer.state.value}", detail))
        await self.commit()
        return kept

    def reserve(
        self, spend: Spend, *, key: str, effect_id: str, change: Mapping[str, Any] | None = None
    ) -> Transfer | TooMuch:
        """What the licence transaction does: go on with what is open under the key, or reserve, or refuse."""
        now = self.now()
        mine = [transfer for transfer in self.kept.values() if transfer.key == key]
        others = [
            other
            for other in self.kept.values()
            if (other.source == spend.source or other.destination == spend.destination)
            and counts(other, now, spend.slot)
        ]
        if not self.lock:
            mine, others = [], [replace(other, destination="") for other in others]
        answer = decide(spend, mine, others, now)
        if isinstance(answer, TooMuch):
            return answer
        if answer is not None:
            self.kept[answer.id] = replace(answer, effect_id=effect_id, version=answer.version + 1)
            return self.kept[answer.id]
        number = f"{len(self.kept):026}"
        new = reserved(spend, id=number, key=key, run_id=key, effect_id=effect_id, change=change or {}, now=now)
        self.kept[number] = new
        return new

    def conclude(self, effect_id: str) -> None:
        """What the outcome of a licence does: nothing stays reserved without one."""
        self.over.add(effect_id)
        for transfer in list(self.kept.values()):
            if transfer.effect_id == effect_id and transfer.state is TransferState.RESERVED:
                released = transfer.release("the licence is over", self.now())
                self.kept[transfer.id] = replace(released, version=transfer.version + 1)
