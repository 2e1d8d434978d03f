"""One simulated replica: the real Worker, Engine and Intake in a process of their own, wired as the service does it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from remediator.alert import Bounds
from remediator.arrival import Receipt
from remediator.audit import Entry
from remediator.engine import Engine
from remediator.errors import DeliveryError, RemediatorError, StoreUnavailable
from remediator.ids import SystemIds
from remediator.intake import Intake, intake_rules
from remediator.metrics import Metrics
from remediator.planning import Plans
from remediator.rule import Mode
from remediator.store import Store
from remediator.target import Target
from remediator.worker import Worker
from remediator.world import World
from tests.simulation.loop import HostClock, Process, SimulatedLoop
from tests.simulation.rules import DROPPED, REGISTRY, Edition, edition
from tests.simulation.weather import FaultyStore, Wakes, Weather
from tests.simulation.witness import Witness

T = TypeVar("T")
METRICS = Metrics()
"""One for all: nothing is decided by a metric."""


class Answer(NamedTuple):
    """What a sender gets: an HTTP status, and for 200 the receipt."""

    status: int
    receipt: Receipt | None = None


class Timing(NamedTuple):
    """Seconds that all replicas of one simulation share."""

    lease: float
    poll: float
    backlog: int


class Replica:
    """A process with everything in it; ``weather`` is its own way to the store."""

    def __init__(
        self,
        name: str,
        loop: SimulatedLoop,
        dice: random.Random,
        witness: Witness,
        everywhere: Weather,
        wakes: Wakes,
        places: Mapping[str, Target],
        timing: Timing,
        rules: tuple[str, Mode],
    ) -> None:
        self.process = Process(name)
        self.loop = loop
        self.weather = Weather()
        self.clock = HostClock(loop, self.process)
        self.ids = SystemIds(self.clock, dice.randbytes)
        self.store = cast(Store, FaultyStore(witness, loop, self.process, dice, wakes, everywhere, self.weather))
        self.places = places
        self.loaded = edition(*rules)
        self.world = self._world(self.loaded)
        self.engine = Engine(self.store, lambda: self.world, clock=self.clock, ids=self.ids, metrics=METRICS)
        self.worker = Worker(
            self.store, self.engine, owner=name, clock=self.clock, concurrency=8, lease=timing.lease, poll=timing.poll
        )
        self.intake = Intake(
            self.store, intake_rules(self.loaded.rulebook, self.loaded.refs, DROPPED), clock=self.clock,
            metrics=METRICS, bounds=Bounds(), backlog=timing.backlog, deadline=5.0, wake=self.worker.wake,
        )  # fmt: skip
        self.store.on_wake(self.worker.wake)
        self.ready = False
        loop.spawn(self.process, self._start(), f"{name}-start")

    def _world(self, loaded: Edition) -> World:
        return World(
            registry=REGISTRY, rules=loaded.rules, targets=self.places, plans=Plans(REGISTRY),
            mode_max=loaded.mode_max, severities={}, approval_expires=300.0,
        )  # fmt: skip

    async def _start(self) -> None:
        while not self.ready:
            try:
                await self._remember(self.loaded, "service.started")
                self.ready = True
            except StoreUnavailable:
                await asyncio.sleep(2.0)
        self.worker.start()

    async def _remember(self, loaded: Edition, event: str) -> None:
        bodies = {rule.digest: rule.body for rule in loaded.rulebook.rules}
        await self.store.remember(bodies, Entry(event=event, actor="remediator"))

    def run(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Something that this process does."""
        return self.loop.spawn(self.process, work, f"{self.process.name}-{name}")

    async def reload(self, rules: tuple[str, Mode]) -> None:
        """Other rules and another ceiling, swapped all at once, once the store knows their bodies."""
        loaded = edition(*rules)
        await self._remember(loaded, "rules.loaded")
        self.loaded, self.world = loaded, self._world(loaded)
        self.intake.replace(intake_rules(loaded.rulebook, loaded.refs, DROPPED))
        self.worker.wake()

    async def serve(self, body: bytes, source: str) -> Answer:
        """One delivery, with the statuses of the HTTP face."""
        if not self.ready:
            return Answer(503)
        try:
            return Answer(200, await self.intake.accept(body, source))
        except DeliveryError as error:
            return Answer(error.status)
        except StoreUnavailable:
            return Answer(503)
        except RemediatorError:
            return Answer(500)
