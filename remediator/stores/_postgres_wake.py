"""Listens for the word of other replicas that there is something to do, and goes on listening whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from remediator.errors import StoreUnavailable
from remediator.stores._postgres_connect import Address

_log = structlog.get_logger("remediator.store")
_CHECK = 15.0
"""Seconds of silence after which the connection is asked whether it still lives."""
_FIRST, _LONGEST = 0.1, 5.0
"""Seconds between tries to connect again."""


class Listener:
    """One connection that only listens. Losing it costs latency: behind it stands the worker's poll."""

    def __init__(self, address: Address, wake: Callable[[], None]) -> None:
        self._address = address
        self._wake = wake
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._for_ever(), name="postgres-listener")

    async def stop(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _for_ever(self) -> None:
        wait, told = _FIRST, False
        while True:
            try:
                await self._listen()
                wait, told = _FIRST, False
            except (StoreUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if not told:
                    _log.warning("wake-ups of other replicas are not heard; work is found by polling", error=str(error))
                told = True
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST)

    async def _listen(self) -> None:
        """Until the connection is lost."""
        connection = await self._address.connection("remediator listen")
        try:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(self._address.channel, self._heard)
            self._wake()  # Something may have been said while nobody listened.
            while not gone.is_set():
                try:
                    async with asyncio.timeout(_CHECK):
                        await gone.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _heard(self, *_: Any) -> None:
        self._wake()
