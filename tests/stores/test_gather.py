"""Proves that deliveries share commits, and that as many commits are under way as the store allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from remediator.arrival import Arrival, Receipt
from remediator.errors import StoreError, StoreUnavailable
from remediator.stores._gather import Gatherer
from tests.stores.conformance.kit import arrival, sighting


class Slow:
    """Commits that last until they are let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Receipt]:
        """One batch, answered in its order; a source "bad" fails it, "away" finds no store."""
        self.sizes.append(len(arrivals))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        sources = {each.source for each in arrivals}
        if "away" in sources:
            raise StoreUnavailable("away")
        if "bad" in sources:
            raise StoreError("bad")
        return [Receipt(each.source, (), {}, 0) for each in arrivals]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_as_many_commits_at_once_as_are_allowed(at_once: int) -> None:
    """The first commits take what is there; the rest gathers and shares one, and each is told its own result."""
    slow = Slow()
    gatherer = Gatherer(slow.commit, most=100, at_once=at_once)
    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(gatherer.submit(arrival(sighting("a"), source=str(number)))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    slow.gate.set()
    receipts = await asyncio.gather(*tasks)
    assert [receipt.delivery_id for receipt in receipts] == [str(number) for number in range(20)]
    assert slow.sizes == [1] * at_once + [20 - at_once]
    assert slow.most == at_once
    await gatherer.finished()


async def test_nobody_is_forgotten_between_two_commits() -> None:
    """A delivery that comes in the very moment in which a commit ends is committed too, whenever that is."""
    slow = Slow()
    slow.gate.set()
    gatherer = Gatherer(slow.commit, most=100, at_once=2)
    async with asyncio.timeout(20):
        for pause in range(200):
            first = asyncio.create_task(gatherer.submit(arrival(source="first")))
            for _ in range(pause % 10):
                await asyncio.sleep(0)
            assert (await gatherer.submit(arrival(source="second"))).delivery_id == "second"
            assert (await first).delivery_id == "first"
    await gatherer.finished()
    assert slow.under_way == 0


async def test_one_failure_is_one_callers() -> None:
    """What cannot be kept fails alone, its neighbours are kept; without a store all are told so, once."""
    slow = Slow()
    gatherer = Gatherer(slow.commit, most=100)
    first = asyncio.create_task(gatherer.submit(arrival(source="first")))
    await asyncio.sleep(0)
    calls = [gatherer.submit(arrival(source=source)) for source in ("a", "bad", "b")]
    together = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    slow.gate.set()
    answers = await together
    assert [getattr(each, "delivery_id", str(each)) for each in answers] == ["a", "bad", "b"]
    assert isinstance(answers[1], StoreError)
    await first
    slow.sizes.clear()
    slow.gate.clear()
    first = asyncio.create_task(gatherer.submit(arrival(source="first")))
    await asyncio.sleep(0)
    calls = [gatherer.submit(arrival(source=source)) for source in ("a", "away")]
    together = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    slow.gate.set()
    assert all(isinstance(each, StoreUnavailable) for each in await together)
    await first
    assert slow.sizes == [1, 2]
