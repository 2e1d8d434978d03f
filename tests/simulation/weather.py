"""The way from one replica to the store, and everything that goes wrong on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from remediator.audit import AuditRecord
from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable
from tests.simulation.loop import Died, Process, SimulatedLoop
from tests.simulation.witness import READS, Witness


class Weather:
    """Until when each kind of trouble lasts, in virtual time. One for all replicas, and one for each."""

    def __init__(self) -> None:
        self.away = 0.0
        """The store does not answer."""
        self.slow = 0.0
        """The way takes seconds, now and then longer than a lease."""
        self.lossy = 0.0
        """Every third reply is lost, after the commit."""


class Wakes:
    """What one process tells the others: that there may be something to do. Some of it is lost, some comes late."""

    def __init__(self, loop: SimulatedLoop, dice: random.Random) -> None:
        self._loop = loop
        self._dice = dice
        self._listeners: list[tuple[Process, Callable[[], None]]] = []

    def listen(self, process: Process, callback: Callable[[], None]) -> None:
        """Call ``callback`` in ``process`` after commits of other processes."""
        self._listeners.append((process, callback))

    def committed(self, by: Process) -> None:
        """Something was committed that may make a run due."""
        for process, callback in self._listeners:
            if process is not by and process.alive and self._dice.random() < 0.5:
                delay = self._dice.choice((0.002, 0.002, 1.0, 10.0)) * self._dice.random()
                self._loop.call_later(delay, callback, context=process.context.copy())


QUIET = READS | {"claim", "renew", "licence", "late", "append", "remember", "prune", "ask", "pause"}
"""After every other verb somebody else may have something to do."""
VERBS = ("claim", "licence", "conclude", "save", "renew", "ask", "intake", "pauses", "approval")
"""After these a process may be made to die or to stop, before it hears that they are done."""


class FaultyStore:
    """The port of the store as one replica has it: every verb goes to the one true store, or does not arrive.

    A verb whose reply is lost raises StoreUnavailable although its transaction is committed. Every verb of the port
    goes this way, those that will be added too; the two below are no transactions.
    """

    def __init__(
        self,
        witness: Witness,
        loop: SimulatedLoop,
        process: Process,
        dice: random.Random,
        wakes: Wakes,
        *weathers: Weather,
    ) -> None:
        self._witness = witness
        self._loop = loop
        self._process = process
        self._dice = dice
        self._wakes = wakes
        self._weathers = weathers

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Hints from the other processes; they take a way of their own."""
        self._wakes.listen(self._process, callback)

    def audit_stream(self) -> AsyncIterator[AuditRecord]:
        """Nobody in the core reads it while runs are advanced, so nothing befalls it here."""
        return self._witness.truth.audit_stream()

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
            if verb == "next_due" and result is not None:
                # As the adapter of several hosts tells it: as the host's own clock will show it.
                result += self._process.offset
            if error is None and verb not in QUIET:
                self._wakes.committed(self._process)
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
