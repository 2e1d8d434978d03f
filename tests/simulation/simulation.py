"""One seed from its first alert to its last run: builds everything, lets it live, repairs it, waits, and judges."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import structlog

from remediator import crashpoint
from remediator.ids import SystemIds
from remediator.run import LIVE, Kind, Run
from remediator.stores.sqlite import SqliteStore
from remediator.target import Target
from tests.simulation import judgement
from tests.simulation.faults import Doom, Faults
from tests.simulation.loop import EPOCH, Died, SimulatedLoop, TrueClock, current_process
from tests.simulation.people import People
from tests.simulation.places import Server, place
from tests.simulation.replica import Replica, Timing
from tests.simulation.rules import MAX_RUNS
from tests.simulation.senders import Senders, lives
from tests.simulation.weather import Wakes, Weather
from tests.simulation.witness import Witness

_QUIET_AFTER = 3600.0
"""Virtual seconds after the last fault within which every run must have come to its end."""


class Figures(NamedTuple):
    """What one seed came to."""

    seed: int
    trace: str
    runs: int
    effects: int
    verbs: int
    deaths: int
    kinds: tuple[str, ...]
    virtual: float
    states: tuple[str, ...]


class Violation(AssertionError):
    """An invariant does not hold under a seed."""


@dataclass
class Simulation:
    """Everything of one seed."""

    seed: int
    verbose: bool = False
    replicas: list[Replica] = field(default_factory=list)
    dooms: list[Doom] = field(default_factory=list)
    deaths: int = 0
    ends: list[Run] = field(default_factory=list)
    """Every run, as it is in the end."""

    def __post_init__(self) -> None:
        self.dice = dice = random.Random(self.seed)
        self.loop = SimulatedLoop(random.Random(dice.random()), shuffled=dice.random() < 0.8)
        self.length = dice.choice((200.0, 500.0, 900.0))
        polls = (2.0, 20.0) if self.length < 300.0 else (20.0, 60.0)  # A service asks each second; that is dear here.
        self.timing = Timing(lease=dice.choice((12.0, 30.0)), poll=dice.choice(polls), backlog=1000)
        self.clock = TrueClock(self.loop)
        self.everywhere = Weather()
        ids = SystemIds(self.clock, dice.randbytes)
        self.truth = SqliteStore(":memory:", clock=self.clock, ids=lambda: self._id(ids), inline=True)
        self.witness = Witness(self.loop, self.truth, verbose=self.verbose)
        self.servers = {
            name: Server(name, self.loop, random.Random(dice.random()), self.witness) for name in MAX_RUNS
        }
        self.places: dict[str, Target] = {
            name: place(name, self.servers[name], max_runs=most) for name, most in MAX_RUNS.items()
        }
        for server in self.servers.values():
            server.pace = dice.choice((0.2, 3.0, 12.0))
        self.lives = lives(dice, self.length)
        self.senders = Senders(
            self.loop, random.Random(dice.random()), self.lives, self.any_alive, self.witness.tell
        )
        self.people = People(
            random.Random(dice.random()), self.any_alive, self._living, self.witness.tell
        )
        self.wakes = Wakes(self.loop, random.Random(dice.random()))
        self.faults = Faults(self, random.Random(dice.random()))

    def _id(self, world: SystemIds) -> str:
        # A store's adapter makes identifiers in the process of its replica, with the clock of that host.
        process = current_process()
        owner = next((replica for replica in self.replicas if replica.process is process), None)
        return world() if owner is None else owner.ids()

    # replicas --------------------------------------------------------------------------------------------------------

    def _living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.process.alive]

    def any_alive(self) -> Replica | None:
        """Some replica that was not killed; it may be stopped or cut off."""
        living = self._living()
        return self.dice.choice(living) if living else None

    def add(self) -> None:
        """Start another replica."""
        name = f"replica-{len(self.replicas)}"
        replica = Replica(
            name, self.loop, random.Random(self.dice.random()), self.witness, self.everywhere, self.wakes, self.places,
            self.timing, self.people.rules,
        )  # fmt: skip
        replica.process.offset = self.dice.choice((0.0, 0.0, 0.0, 0.3, -0.3))
        self.replicas.append(replica)
        self.witness.tell(name, "starts")

    def bury(self, replica: Replica) -> None:
        """It is dead from here on; another one takes its place."""
        if not replica.process.alive:
            return
        replica.process.alive = False
        replica.process.waiting.clear()
        self.deaths += 1
        self.witness.tell(replica.process, "dies")
        self.loop.world(self.dice.choice((0.5, 10.0, 60.0)), self.add)
        self._look_soon()

    def stop(self, replica: Replica, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if not replica.process.stopped:
            self.loop.stop_process(replica.process, seconds)
            self._look_soon()

    def _look_soon(self) -> None:
        # A service looks every second; here that would be most of the work. It looks when there may be something.
        for leases in (0.2, 0.7, 1.0, 1.3, 2.0):
            self.loop.world(leases * self.timing.lease + 0.01, self._wake_all)

    def _wake_all(self) -> None:
        for replica in self._living():
            replica.worker.wake()

    def passage(self, point: str) -> None:
        """A crash point was passed by whoever runs now; the first doom that waits there strikes it."""
        process = current_process()
        doom = next((doom for doom in self.dooms if doom.point in ("", point)), None)
        if doom is None or process is None:
            return
        doom.left -= 1
        if doom.left > 0:
            return
        self.dooms.remove(doom)
        self.witness.tell(process, "is struck at", point, round(doom.stop, 3))
        if doom.hasty:
            self.people.hurry()
            return
        replica = next(replica for replica in self.replicas if replica.process is process)
        if doom.stop:
            self.stop(replica, doom.stop)
            return
        self.bury(replica)
        if point != "store.after_commit":
            raise Died
        # Here the store itself is at work, which is another process; who asked dies before the answer arrives.

    def drain(self, replica: Replica, grace: float) -> None:
        """SIGTERM."""

        async def leave() -> None:
            replica.ready = False
            await replica.worker.drain(grace)

        task = replica.run(leave(), "drain")
        self.loop.world(grace + 20.0, self.bury, replica)
        task.add_done_callback(lambda done: self.bury(replica))

    # life ------------------------------------------------------------------------------------------------------------

    def run(self) -> Figures:
        """The whole life of this seed. Raises Violation."""
        try:
            with _quiet(self.verbose, self.witness, self.loop), _passages(self):
                try:
                    self.loop.run_until_complete(self.loop.create_task(self._live()))
                finally:
                    self.loop.wind_up()
        except Exception as error:
            kinds = ", ".join(self.faults.kinds)
            raise Violation(
                f"seed {self.seed}: replay with make sim FROM={self.seed} SEEDS=1\n"
                f"{type(error).__name__}: {error}\nThe faults of this seed: {kinds or 'none'}."
            ) from error
        states = sorted(run.state.value for run in self.ends)
        return Figures(
            self.seed, self.witness.trace, len(states), sum(len(s.done) for s in self.servers.values()),
            self.witness.verbs.total(), self.deaths, self.faults.kinds, self.loop.time(), tuple(states),
        )  # fmt: skip

    async def _live(self) -> None:
        await self.truth.open()
        for _ in range(self.dice.choice((1, 2, 2, 3))):
            self.add()
        senders = self.senders.start()
        people = self.loop.create_task(self.people.live())
        faults = self.loop.create_task(self.faults.live())
        await asyncio.sleep(self.length)
        faults.cancel()
        await self._repair()
        await self._calm(senders)
        people.cancel()
        self._healthy([people, faults, *senders])
        self.ends = await judgement.judge(self)
        await self.truth.close()

    async def _repair(self) -> None:
        self.faults.end()
        self.people.busy = False
        self.witness.tell("fault", "all is repaired")
        for pause in await self.truth.pauses():
            if self.dice.random() < 0.8:
                await self.truth.resume(pause.scope, "user:ann", "all is well")
        if not self._living():
            self.add()

    async def _calm(self, senders: Sequence[asyncio.Task[None]]) -> None:
        end = self.loop.time() + _QUIET_AFTER
        while self.loop.time() < end:
            await asyncio.sleep(30.0)
            self._healthy(senders)
            live = await self.truth.runs(states=tuple(LIVE), kinds=tuple(Kind))
            waiting = [run for run in live if judgement.may_wait(run, EPOCH + self.loop.time())]
            if len(live) == len(waiting) and all(sender.done() for sender in senders):
                return

    def _healthy(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        for replica in self.replicas:
            for background in replica.worker._tasks:
                died = background.done() and replica.process.alive and not background.cancelled()
                assert not died, f"a loop of {replica.process} ended: {background!r}"
        assert not self.loop.failures, self.loop.failures[0]


@contextmanager
def _passages(simulation: Simulation) -> Iterator[None]:
    crashpoint.on_passage(simulation.passage)
    try:
        yield
    finally:
        crashpoint.on_passage(None)


@contextmanager
def _quiet(verbose: bool, witness: Witness, loop: SimulatedLoop) -> Iterator[None]:
    """Log lines become part of the trace that is read, or nothing at all."""

    def keep(logger: object, method: str, line: Any) -> Any:
        witness.tell(current_process(), f"log {method}", line)
        raise structlog.DropEvent

    before: dict[str, Any] | Literal[False] = structlog.is_configured() and structlog.get_config()
    level = 10 if verbose else 50
    processors: list[Any] = [structlog.contextvars.merge_contextvars, keep]
    structlog.configure(processors=processors, wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.reset_defaults()
        if before:
            structlog.configure(**before)


def simulate(seed: int, *, verbose: bool = False) -> Figures:
    """Run one seed. Raises Violation."""
    return Simulation(seed, verbose).run()
