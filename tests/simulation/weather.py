"""The way from one replica to the store, and everything that goes wrong on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable
from tests.simulation.loop import Died, Process, SimulatedLoop
from tests.simulation.witness import Witness


class Weather:
    """Until when each kind of trouble lasts, in virtual time. One for all replicas, and one for each."""

    def __init__(self) -> None:
        self.away = 0.0
        """The store does not answer."""
        self.slow = 0.0
        """The way takes seconds, now and then longer than a lease."""
        self.lossy = 0.0
        """Every third reply is lost, after the commit."""


VERBS = ("claim", "licence", "conclude", "save", "renew", "ask", "intake", "pauses", "approval")
"""After these a process may be made to die or to stop, before it hears that they are done."""


class FaultyStore:
    """The port of the store as one replica has it: every verb goes to the one true store, or does not arrive.

    A verb whose reply is lost raises StoreUnavailable although its transaction is committed.
    """

    def __init__(
        self,
        witness: Witness,
        loop: SimulatedLoop,
        process: Process,
        dice: random.Random,
        *weathers: Weather,
    ) -> None:
        self._witness = witness
        self._loop = loop
        self._process = process
        self._dice = dice
        self._weathers = weathers

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        operation = getattr(self._witness.truth, verb)

        async def call(*args: Any, **more: Any) -> Any:
            await self._go()
            result: Any = None
            error: Exception | None = None
            try:
                result = await self._witness.carry(self._process, verb, operation, args, more)
            except Exception as raised:  # noqa: BLE001 - a refusal is an answer too, and takes the same way back
                error = raised
            self._alive()
            crashpoint(f"committed {verb}")
            await self._back(verb)
            if error is not None:
                raise error
            return result

        return call

    def _alive(self) -> None:
        if not self._process.alive:
            raise Died

    def _until(self, kind: str) -> bool:
        now = self._loop.time()
        return any(getattr(weather, kind) > now for weather in self._weathers)

    async def _pause(self) -> None:
        longest = 0.004
        if self._until("slow"):
            longest = self._dice.choice((0.5, 3.0, 3.0, 10.0, 45.0))
        await asyncio.sleep(self._dice.random() * longest)

    async def _go(self) -> None:
        self._alive()
        await self._pause()
        if self._until("away"):
            await asyncio.sleep(self._dice.choice((0.001, 0.5, 3.0)))
            raise StoreUnavailable("the simulated store is away")

    async def _back(self, verb: str) -> None:
        await self._pause()
        if self._until("away") or (self._until("lossy") and self._dice.random() < 0.33):
            self._witness.tell(self._process, "reply lost", verb)
            await asyncio.sleep(self._dice.choice((0.001, 3.0)))
            raise StoreUnavailable("the simulated connection broke before the reply")
