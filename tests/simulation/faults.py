"""What goes wrong, and when: a seed switches some kinds of faults on, and says how often they come."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediator.crashpoint import MONEY, POINTS
from tests.simulation.rules import TURNED
from tests.simulation.weather import VERBS

if TYPE_CHECKING:
    from tests.simulation.replica import Replica
    from tests.simulation.simulation import Simulation

KINDS = (
    "crash", "crash point", "drain", "stop", "stop point", "store away", "partition", "slow store", "lossy store",
    "clock jump", "hasty person", "other hands", "bad targets", "bad network",
)  # fmt: skip


_POINTS = (*(point for point in POINTS if point not in MONEY), *(f"committed {verb}" for verb in VERBS), "")
# Between a licence and the record of its outcome is where it matters most, and right after that.
_BESIDE_EFFECTS = (
    "request sent", "committed licence", "engine.after_licence", "engine.after_apply", "committed conclude",
    "engine.after_conclude",
)  # fmt: skip


@dataclass(eq=False)
class Doom:
    """What happens to the process that passes a point for the nth time: it stands still so long, or dies (0)."""

    point: str
    left: int
    stop: float
    hasty: bool = False
    """Not the process is struck, but somebody pauses everything at this very moment."""


class Faults:
    """The faults of one seed. An empty point is whichever comes next."""

    def __init__(self, simulation: Simulation, dice: random.Random) -> None:
        self._simulation = simulation
        self._dice = dice
        self.kinds = tuple(kind for kind in KINDS if dice.random() < 0.45)
        self.every = dice.choice((7.0, 20.0, 60.0))
        """How long it is from one fault to the next, on average."""
        if "bad targets" in self.kinds:
            for server in simulation.servers.values():
                server.trouble = dice.choice((0.1, 0.3, 0.6))
        if "bad network" in self.kinds:
            simulation.senders.trouble = dice.choice((0.1, 0.3, 0.6))

    async def live(self) -> None:
        """One fault after the other, until somebody ends this task."""
        active = [kind for kind in self.kinds if not kind.startswith("bad ")]
        if not active:
            return
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / self.every))
            self._strike(self._dice.choice(active))

    def _strike(self, kind: str) -> None:
        simulation, dice = self._simulation, self._dice
        lease = simulation.timing.lease
        length = dice.choice((2.0, 10.0, 0.7 * lease, 1.6 * lease, 3 * lease)) * dice.uniform(0.7, 1.3)
        simulation.witness.tell("fault", kind, round(length, 3))
        replica = simulation.any_alive()
        if kind == "other hands":
            simulation.servers["beta"].meddle(dice.choice(TURNED), dice.choice((0, 0, 1, 6)))
        elif kind == "hasty person":
            simulation.dooms.append(Doom("engine.before_licence", 1, 0.0, hasty=True))
        elif kind in ("crash point", "stop point"):
            # About as long as a lease is where it is decided who may act.
            stop = lease * dice.choice((0.7, 1.3, 1.6, 2.5)) * dice.uniform(0.8, 1.2) if kind == "stop point" else 0.0
            point = dice.choice((dice.choice(_POINTS), dice.choice(_BESIDE_EFFECTS), "slow request sent"))
            simulation.dooms.append(Doom(point, dice.choice((1, 1, 2, 3)), stop))
        elif replica is not None:
            self._strike_at(kind, replica, length)

    def _strike_at(self, kind: str, replica: Replica, length: float) -> None:
        simulation, dice = self._simulation, self._dice
        until, somewhere = simulation.loop.time() + length, dice.choice((simulation.everywhere, replica.weather))
        if kind == "crash":
            simulation.bury(replica)
        elif kind == "drain":
            simulation.drain(replica, grace=dice.choice((0.1, 5.0, 25.0)))
        elif kind == "stop":
            simulation.stop(replica, length)
        elif kind == "store away":
            simulation.everywhere.away = until
        elif kind == "partition":
            replica.weather.away = until
        elif kind == "slow store":
            somewhere.slow = until
        elif kind == "lossy store":
            somewhere.lossy = until
        elif kind == "clock jump":
            replica.process.offset = dice.choice((0.0, -3600.0, 3600.0, dice.uniform(-3600, 3600), 5.0, -5.0))

    def end(self) -> None:
        """Nothing new goes wrong, and what was wrong is repaired; clocks stay as wrong as they are."""
        simulation = self._simulation
        simulation.senders.trouble = 0.0
        for server in simulation.servers.values():
            server.trouble = 0.0
        for weather in (simulation.everywhere, *(replica.weather for replica in simulation.replicas)):
            weather.away = weather.slow = weather.lossy = 0.0
        simulation.dooms.clear()
        for replica in simulation.replicas:
            if replica.process.stopped:
                simulation.loop.resume_process(replica.process)
