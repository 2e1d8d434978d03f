"""Those who tell the replicas of problems and do not give up: plain senders, a pair of Alertmanagers, and people."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import yaml

from remediator.clock import format_instant
from tests.chaos.fleet import Fleet
from tests.chaos.rules import NAMES
from tests.crash.scene import body, firing, resolved
from tests.servers import Server, alertmanager

_PATIENCE = 120.0
"""Seconds after which a sender that was never told 200 calls it a failure of the service."""


class Senders:
    """Tells of problems, each for a while, some twice at the same moment and some again when they are over."""

    def __init__(self, fleet: Fleet, dice: random.Random) -> None:
        self.fleet = fleet
        self.dice = dice
        self.statuses: Counter[int] = Counter()
        self.acknowledged: set[str] = set()
        """Group keys of deliveries that were answered with 200; each is unique."""
        self.told: set[str] = set()
        """Identities of problems of which somebody has acknowledged to know."""
        self._count = 0
        self._lives: set[asyncio.Task[None]] = set()

    async def deliver(self, *alerts: Mapping[str, Any]) -> None:
        """Post alerts to a replica, and to another one whenever the answer is 503 or none, until one says 200."""
        self._count += 1
        group = f"chaos/{self._count}"
        sent = {**body(*alerts), "groupKey": group}
        deadline = time.monotonic() + _PATIENCE
        replica = self.dice.choice(self.fleet.replicas)
        while time.monotonic() < deadline:
            status, _ = await replica.ask("POST", "/api/v1/alertmanager", sent, seconds=6.0)
            self.statuses[status] += 1
            if status == 200:
                self.acknowledged.add(group)
                self.told |= {alert["labels"]["id"] for alert in alerts if alert["status"] == "firing"}
                return
            assert status in (0, 503), f"a delivery was answered with {status}"
            replica = self.dice.choice([each for each in self.fleet.replicas if each is not replica])
            await asyncio.sleep(0.1)
        raise AssertionError(f"nobody accepted a delivery for {_PATIENCE:g} s")

    async def life(self, name: str) -> None:
        """One problem from its beginning to its end."""
        self._count += 1
        labels, at = {"id": f"direct-{self._count}"}, time.time()
        copies = 2 if self.dice.random() < 0.4 else 1
        await asyncio.gather(*(self.deliver(firing(name, at, **labels)) for _ in range(copies)))
        await asyncio.sleep(self.dice.uniform(0.1, 6.0))
        if self.dice.random() < 0.3:
            await self.deliver(firing(name, at, **labels))
        await self.deliver(resolved(name, at, **labels))
        if self.dice.random() < 0.2:
            await self.deliver(firing(name, at, **labels))  # Late: the problem is over.

    async def begin(self, rate: float, until: float) -> None:
        """``rate`` new problems a second until ``until`` (monotonic), however slow the service is."""
        while time.monotonic() < until:
            task = asyncio.create_task(self.life(self.dice.choice(NAMES)))
            self._lives.add(task)
            await asyncio.sleep(1 / rate)

    async def done(self) -> None:
        """Wait for the end of all problems. Raises what went wrong on the way."""
        await asyncio.gather(*self._lives)


class Prometheus:
    """Tells both Alertmanagers again and again of what fires, as Prometheus does."""

    def __init__(self, session: aiohttp.ClientSession, pair: Sequence[Server], dice: random.Random) -> None:
        self._session = session
        self._pair = pair
        self._dice = dice
        self.firing: dict[str, dict[str, Any]] = {}
        """What fires now, by identity."""
        self._ended: list[dict[str, Any]] = []
        self.count = 0

    async def begin(self, rate: float, until: float) -> None:
        """``rate`` new problems a second until ``until`` (monotonic), each for 5 to 20 seconds."""
        ends: dict[str, float] = {}
        next_one = time.monotonic()
        while time.monotonic() < until:
            if time.monotonic() >= next_one:
                next_one += 1 / rate
                self.count += 1
                name, identity = self._dice.choice(NAMES), f"prometheus-{self.count}"
                labels = {"alertname": name, "id": identity}
                self.firing[identity] = {"labels": labels, "startsAt": format_instant(time.time())}
                ends[identity] = time.monotonic() + self._dice.uniform(5.0, 20.0)
            for identity in [each for each, at in ends.items() if at < time.monotonic() and each in self.firing]:
                self._end(identity)
            await self.tell()
            await asyncio.sleep(0.5)

    def _end(self, identity: str) -> None:
        self._ended.append({**self.firing.pop(identity), "endsAt": format_instant(time.time())})

    async def tell(self) -> None:
        """One round: everything that fires, and what ended lately."""
        later = format_instant(time.time() + 60)
        alerts = [{**alert, "endsAt": later} for alert in self.firing.values()] + self._ended[-40:]
        for each in self._pair:
            async with self._session.post(f"{each.url}/api/v2/alerts", json=alerts) as answer:
                assert answer.status == 200, await answer.text()

    async def end(self) -> None:
        """Everything is well again."""
        for identity in [*self.firing]:
            self._end(identity)
        await self.tell()


@asynccontextmanager
async def alertmanagers(fleet: Fleet) -> AsyncIterator[list[Server]]:
    """Two real Alertmanagers that know each other; each delivers through a door of its own to a replica of its own."""
    async with AsyncExitStack() as stack:
        pair: list[Server] = []
        for number in range(2):
            peers = [each.cluster for each in pair]
            started = alertmanager(
                _config(f"{fleet.outside.url}/door/{number}"), cluster=True, peers=peers,
                flags=["--cluster.peer-timeout=2s", "--log.level=error"],
            )  # fmt: skip
            pair.append(await stack.enter_async_context(started))
        yield pair


def _config(url: str) -> str:
    # An interval of one second makes many retries and many repeats; the usual one is five minutes.
    times = {"group_wait": "200ms", "group_interval": "1s", "repeat_interval": "8s"}
    receiver = {"name": "remediator", "webhook_configs": [{"url": url, "send_resolved": True, "max_alerts": 0}]}
    return yaml.safe_dump(
        {"route": {"receiver": "remediator", "group_by": ["..."], **times}, "receivers": [receiver]}
    )


def admitted(door: Sequence[tuple[int, bytes]]) -> tuple[set[str], set[str], Counter[int]]:
    """Of what Alertmanagers delivered: digests of acknowledged bodies, identities of problems, and all statuses."""
    bodies: set[str] = set()
    problems: set[str] = set()
    for status, sent in door:
        if status == 200:
            bodies.add(hashlib.sha256(sent).hexdigest())
            alerts = json.loads(sent)["alerts"]
            problems |= {alert["labels"]["id"] for alert in alerts if alert["status"] == "firing"}
    return bodies, problems, Counter(status for status, _ in door)


async def approvers(fleet: Fleet, dice: random.Random) -> None:
    """People who say yes to every open question, through whichever replica answers; ends by being cancelled."""
    while True:
        status, page = await dice.choice(fleet.replicas).ask("GET", "/api/v1/runs?state=held&limit=200", seconds=3.0)
        if status == 200:
            for run in page["items"]:
                if run["reason"] == "approval":
                    await _approve(fleet, dice, run["id"])
        await asyncio.sleep(0.7)


async def _approve(fleet: Fleet, dice: random.Random, run_id: str) -> None:
    status, whole = await dice.choice(fleet.replicas).ask("GET", f"/api/v1/runs/{run_id}", seconds=3.0)
    if status == 200 and whole.get("approval"):
        vote = {"digest": whole["approval"]["digest"], "comment": "yes"}
        await dice.choice(fleet.replicas).ask("POST", f"/api/v1/runs/{run_id}/approve", vote, seconds=3.0)
