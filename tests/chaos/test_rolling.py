"""A rolling restart of three replicas under load, as an orchestrator does it: nobody who sends notices."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.fleet import Fleet, Replica, fleet
from tests.chaos.judgement import bugs, judge
from tests.crash.scene import VERIFY, body, firing, post, resolved, rule

RATE = 50.0
"""Deliveries a second."""
NAMES = ("once", "keyed", "keyed")
RULES = [
    rule("once", "auto", [post("/once")]),
    rule("keyed", "auto", [post("/keyed", keyed=True)], verify=VERIFY),
]


class Balancer:
    """Sends to ready replicas in turn, as a Service of Kubernetes does; who is ready is asked every 200 ms."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ready: list[Replica] = []
        self._turn = 0
        self.statuses: Counter[int] = Counter()
        self.by_replica: Counter[int] = Counter()
        self.acknowledged: set[str] = set()
        self.problems: set[str] = set()

    async def watch(self) -> None:
        """Look who is ready, for as long as this is not cancelled."""
        while True:
            answers = await asyncio.gather(*(each.ask("GET", "/-/ready", seconds=1.0) for each in self._fleet.replicas))
            found = zip(self._fleet.replicas, answers, strict=True)
            self._ready = [replica for replica, (status, _) in found if status == 200]
            await asyncio.sleep(0.2)

    async def send(self, group: str, *alerts: dict[str, Any]) -> None:
        """One delivery, tried once: whatever is not 200 is a failure that the sender sees."""
        self._turn += 1
        replica = self._ready[self._turn % len(self._ready)]
        status, _ = await replica.ask("POST", "/api/v1/alertmanager", {**body(*alerts), "groupKey": group})
        self.statuses[status] += 1
        if status == 200:
            self.by_replica[replica.number] += 1
            self.acknowledged.add(group)
            self.problems |= {alert["labels"]["id"] for alert in alerts if alert["status"] == "firing"}

    async def load(self, until: asyncio.Event) -> None:
        """``RATE`` deliveries a second: of ten, three tell of new problems, four repeat, three of what ended."""
        begun, wall, tens, sent = time.monotonic(), time.time(), 0, list[asyncio.Task[None]]()
        while not until.is_set():
            for part in range(10):
                # A problem lasts for four seconds, so that most are acted on before they end.
                ten, tell = (tens, firing) if part < 7 else (tens - round(4 * RATE / 10), resolved)
                alert = tell(NAMES[part % 3], wall + ten * 10 / RATE, id=f"{ten}-{part % 3}")
                sent.append(asyncio.create_task(self.send(f"rolling/{tens}-{part}", alert)))
                await asyncio.sleep(max(0.0, begun + (tens * 10 + part + 1) / RATE - time.monotonic()))
            tens += 1
        await asyncio.gather(*sent)
        await self.send("rolling/end", *(
            resolved(name, wall + ten * 10 / RATE, id=f"{ten}-{which}")
            for ten in range(tens) for which, name in enumerate(NAMES)
        ))  # fmt: skip


async def _restarted(replica: Replica) -> None:
    """SIGTERM, its peaceful end, and another process that is ready."""
    await replica.down(signal.SIGTERM, 0)
    await replica.start()
    await replica.ready()


async def test_a_rolling_restart_is_seen_by_nobody_who_sends(tmp_path: Path) -> None:
    """Three replicas replaced at 50 deliveries/s: only 200s, no broken connection, nobody called, nothing lost."""
    async with fleet(tmp_path) as it:
        it.outside.delay = 0.3
        it.configure(RULES)
        await it.start()
        balancer, over = Balancer(it), asyncio.Event()
        watching = asyncio.create_task(balancer.watch())
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        loading = asyncio.create_task(balancer.load(over))
        for replica in it.replicas:
            await asyncio.sleep(0.5)
            await _restarted(replica)
        await asyncio.sleep(1.0)
        over.set()
        await loading
        lasted = time.monotonic() - begun
        async with asyncio.timeout(60):
            while (await it.states()).keys() - {"succeeded", "cancelled", "needs_human"}:
                await asyncio.sleep(0.3)
        watching.cancel()
        assert [replica.ends for replica in it.replicas] == [[0], [0], [0]]
        assert await it.stop() == [0, 0, 0]
        assert not bugs(it)
        print(f"{lasted:.1f} s, {dict(balancer.statuses)}, {dict(balancer.by_replica)}")
        assert set(balancer.statuses) == {200}, f"the sender saw {dict(balancer.statuses)}"
        assert balancer.statuses[200] > 0.9 * RATE * lasted
        assert len(balancer.by_replica) == 3
        judged = await judge(it, groups=balancer.acknowledged, problems=balancer.problems)
        print(judged.ends)
        assert {end.partition(" ")[0] for end in judged.ends} <= {"succeeded", "cancelled"}, judged.ends
        assert len(it.outside.effects) > 50
