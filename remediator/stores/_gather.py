"""Group commit of deliveries: while one batch is being committed the next one gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from remediator.arrival import Arrival, Receipt
from remediator.errors import StoreUnavailable

_Waiting = tuple[Arrival, asyncio.Future[Receipt]]


class Gatherer:
    """Hands deliveries that wait at the same time to ``commit`` together.

    ``commit`` writes a batch in one transaction and answers in its order. ``most`` bounds the alerts of a batch, so
    that one transaction stays short; a delivery with more than that goes alone. ``at_once`` batches are under way at
    the same time, for a store whose transactions need not wait for each other.
    """

    def __init__(
        self, commit: Callable[[Sequence[Arrival]], Awaitable[Sequence[Receipt]]], *, most: int, at_once: int = 1
    ) -> None:
        self._commit = commit
        self._most = most
        self._at_once = at_once
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, arrival: Arrival) -> Receipt:
        """The receipt of ``arrival`` once it is committed, or what its commit raised."""
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, future))
        if len(self._tasks) < self._at_once:
            self._tasks.add(asyncio.create_task(self._gather()))
        return await future

    async def finished(self) -> None:
        """Return once nothing is under way; what was submitted has its answer."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _gather(self) -> None:
        task = asyncio.current_task()
        try:
            while self._waiting:
                await self._write(self._next())
        finally:  # At once with the last look: whoever submits now begins another one.
            self._tasks = {each for each in self._tasks if each is not task}

    def _next(self) -> list[_Waiting]:
        size, count = 0, 0
        for arrival, _ in self._waiting:
            size += len(arrival.sightings)
            if count and size > self._most:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            receipts = await self._commit([arrival for arrival, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is handed to whose delivery it is; the others must go on
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for pair in batch:  # One of them is the cause: let only that one fail.
                    await self._write([pair])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), receipt in zip(batch, receipts, strict=True):
            if not future.done():  # Done already when the sender was told 503 in the meantime; it will send again.
                future.set_result(receipt)
