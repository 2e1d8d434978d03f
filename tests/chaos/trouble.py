"""Carries out the plan of faults, each place for itself, and leaves everything mended."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.chaos.fleet import Fleet, Replica
from tests.chaos.rules import RULES, edited
from tests.chaos.schedule import Fault


class Trouble:
    """What happens to a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.had: Counter[str] = Counter()
        """How often each kind of fault took place."""
        self._edits = itertools.count(1)

    async def run(self, faults: Iterable[Fault]) -> None:
        """Everything in the plan. Returns once the last fault was mended."""
        begun = time.monotonic()
        places: dict[str, list[Fault]] = {}
        for fault in faults:
            places.setdefault(fault.place, []).append(fault)
        await asyncio.gather(*(self._at(place, begun) for place in places.values()))

    async def _at(self, faults: Sequence[Fault], begun: float) -> None:
        for fault in faults:
            await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
            family = fault.place.rstrip("0123456789")
            self.had[f"{family} {fault.kind}"] += 1
            await getattr(self, f"_{family}")(fault)

    async def _replica(self, fault: Fault) -> None:
        replica = self._fleet.replicas[int(fault.place.removeprefix("replica"))]
        if fault.kind == "stop":
            replica.tell(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts)
            replica.tell(signal.SIGCONT)
            return
        if fault.kind == "kill":
            await replica.down(signal.SIGKILL)
        else:
            await replica.down(signal.SIGTERM, 0)
        await asyncio.sleep(fault.lasts)
        replica.wanted = True

    async def _postgres(self, fault: Fault) -> None:
        postgres = self._fleet.postgres
        if fault.kind == "crash":
            await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
            await asyncio.sleep(fault.lasts)
            await asyncio.to_thread(postgres.start)
        else:
            postgres.freeze()
            await asyncio.sleep(fault.lasts)
            postgres.thaw()

    async def _redis(self, fault: Fault) -> None:
        redis = self._fleet.redis
        if fault.kind == "flush":
            await asyncio.to_thread(redis.tell, "FLUSHALL")
        elif fault.kind == "freeze":
            redis.freeze()
            await asyncio.sleep(fault.lasts)
            redis.thaw()
        else:
            await asyncio.to_thread(redis.kill)
            await asyncio.sleep(fault.lasts)
            await asyncio.to_thread(redis.start)

    async def _rules(self, fault: Fault) -> None:
        if fault.kind == "edit":
            self._fleet.configure(edited(next(self._edits)))
        for replica in filter(_hears, self._fleet.replicas):
            replica.tell(signal.SIGHUP)

    async def _people(self, fault: Fault) -> None:
        pause = {"scope": "global", "reason": "chaos"}
        status, answer = await self._fleet.anybody("POST", "/api/v1/pause", pause)
        assert status == 200, answer
        await asyncio.sleep(fault.lasts)
        status, answer = await self._fleet.anybody("POST", "/api/v1/resume", {"scope": "global", "reason": "chaos"})
        # 404 says that a try was carried out whose answer was lost.
        assert status in (200, 404), answer

    async def mend(self) -> None:
        """Put the rules back as they were and wait until every replica is ready."""
        self._fleet.configure(RULES)
        for replica in self._fleet.replicas:
            await replica.ready(60.0)
            replica.tell(signal.SIGHUP)


def _hears(replica: Replica) -> bool:
    # A process that is only just starting has no ear for signals yet, and would die of this one.
    return replica.listening
