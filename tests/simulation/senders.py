"""Alertmanagers: two peers that tell of the same alerts, retry, repeat, double and reorder as the real ones do.

Sources: Alertmanager's notify package: a notification is retried after network errors and 5xx (from 0.5 s, times 1.5)
until the group's next flush; what could not be told is told at the next flush. A second peer waits and then
sends too, unless it heard in time that the first one has.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from remediator.arrival import Receipt
from remediator.clock import format_instant
from tests.simulation.loop import EPOCH, Died, SimulatedLoop
from tests.simulation.replica import Answer, Replica

GROUP_INTERVAL = 60.0
_GROUP_WAIT = 5.0
_PEER_TIMEOUT = 15.0
_GIVE_UP = 10.0
_REPEAT = 240.0


@dataclass(frozen=True)
class Life:
    """One true life of one alert; ``starts`` is what each peer says of its start. Virtual seconds."""

    labels: Mapping[str, str] = field(hash=False)
    number: int
    starts: tuple[float, float]
    end: float

    @cached_property
    def name(self) -> str:
        return json.dumps(sorted(self.labels.items()))


KINDS: tuple[Mapping[str, str], ...] = (
    {"alertname": "Lamp"},
    {"alertname": "Door"},
    {"alertname": "Low", "wallet": "a"},
    {"alertname": "Low", "wallet": "b"},
    {"alertname": "Two", "zone": "1", "host": "h1"},
    {"alertname": "Two", "zone": "1", "host": "h2"},
    {"alertname": "Slow"},
    {"alertname": "Flow"},
    {"alertname": "Nobody"},
)


def lives(dice: random.Random, length: float) -> list[Life]:
    """What truly happens during ``length`` seconds."""
    found = []
    for labels in dice.sample(KINDS, dice.randint(2, 6)):
        at = dice.uniform(0, 120)
        for number in range(dice.randint(1, 3)):
            if at > length:
                break
            end = at + dice.choice((20.0, 90.0, 200.0, 500.0)) * dice.uniform(0.5, 1.5)
            found.append(Life(labels, number, (at, min(end, at + dice.choice((0.0, dice.uniform(0, 20))))), end))
            at = end + dice.choice((5.0, 30.0, 100.0, 200.0)) * dice.uniform(0.5, 1.5)
    return found


@dataclass
class Senders:
    """Both peers. ``choose`` names the replica that is reached; ``trouble`` is the share of bad connections."""

    loop: SimulatedLoop
    dice: random.Random
    lives: Sequence[Life]
    choose: Callable[[], Replica | None]
    tell: Callable[..., None]
    trouble: float = 0.0
    acknowledged: list[Receipt] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    gossip: dict[tuple[str, str], float] = field(default_factory=dict)

    def start(self) -> list[asyncio.Task[None]]:
        """One task for each peer and group."""
        groups: dict[str, list[Life]] = {}
        for life in self.lives:
            groups.setdefault(life.labels["alertname"], []).append(life)
        peers = (0, 1) if self.dice.random() < 0.7 else (0,)
        return [self.loop.create_task(self._group(peer, members)) for peer in peers for members in groups.values()]

    async def _group(self, peer: int, members: Sequence[Life]) -> None:
        await asyncio.sleep(min(life.starts[peer] for life in members) + _GROUP_WAIT)
        told, told_at = "", 0.0
        last = max(life.end for life in members)
        while True:
            flushed = self.loop.time()
            alerts = self._alerts(peer, members)
            state = json.dumps([(alert["labels"], alert["status"], alert["startsAt"]) for alert in alerts])
            if alerts and (state != told or flushed > told_at + _REPEAT):
                if peer == 1 and not await self._needed(alerts):
                    told, told_at = state, flushed
                elif await self._notify(peer, alerts, flushed + GROUP_INTERVAL):
                    told, told_at = state, flushed
                    self.gossip[state_of(alerts)] = self.loop.time()
            if flushed > last and told == state:
                return
            await asyncio.sleep(max(0.1, flushed + GROUP_INTERVAL - self.loop.time()))

    async def _needed(self, alerts: Sequence[Mapping[str, Any]]) -> bool:
        await asyncio.sleep(_PEER_TIMEOUT)
        return state_of(alerts) not in self.gossip or self.dice.random() < 0.4

    def _alerts(self, peer: int, members: Sequence[Life]) -> list[dict[str, Any]]:
        now = self.loop.time()
        latest = {life.name: life for life in members if life.starts[peer] <= now}
        return [_alert(life, life.starts[peer], firing=now < life.end) for life in latest.values()]

    async def _notify(self, peer: int, alerts: list[dict[str, Any]], until: float) -> bool:
        body = json.dumps(
            {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "remediator",
             "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": f"http://am-{peer}",
             "alerts": alerts}
        ).encode()  # fmt: skip
        backoff = 0.5
        while True:
            if await self._post(body, peer):
                return True
            if self.loop.time() + backoff > until:
                return False
            await asyncio.sleep(backoff)
            backoff = min(60.0, backoff * 1.5)

    async def _post(self, body: bytes, peer: int) -> bool:
        replica, fate = self.choose(), self.dice.random()
        answered: asyncio.Future[Answer] = self.loop.create_future()
        if replica is None or fate < self.trouble / 3:
            await asyncio.sleep(0.01)
            return False
        delay = self.dice.uniform(0.001, 25.0 if fate < self.trouble * 2 / 3 else 0.05)
        lost = self.dice.random() < self.trouble / 3
        self.loop.world(delay, self._arrive, replica, body, peer, answered, lost)
        if self.dice.random() < self.trouble / 3:
            # A connection that was retried below HTTP: the same body arrives twice.
            self.loop.world(delay + self.dice.uniform(0.0, 5.0), self._arrive, replica, body, peer, answered, True)
        try:
            async with asyncio.timeout(_GIVE_UP):
                answer = await answered
        except TimeoutError:
            return False
        self.statuses.append(answer.status)
        assert answer.status in (200, 503), f"a good delivery was answered with {answer.status}"
        return answer.status == 200

    def _arrive(
        self, replica: Replica, body: bytes, peer: int, answered: asyncio.Future[Answer], lost: bool
    ) -> None:
        if not replica.process.alive:
            return
        task = replica.run(replica.serve(body, f"peer-{peer}"), "delivery")
        task.add_done_callback(lambda done: self._answer(done, answered, lost))

    def _answer(self, done: asyncio.Task[Answer], answered: asyncio.Future[Answer], lost: bool) -> None:
        if isinstance(done.exception(), Died):
            return
        answer = done.result()
        if answer.receipt is not None and not lost:
            # The first byte of the 200 has left: from here on it is a promise.
            self.acknowledged.append(answer.receipt)
        self.tell("sender", "answer", answer.status, lost)
        if not answered.done() and not lost:
            answered.set_result(answer)


def state_of(alerts: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What peers compare: which alerts, and whether they fire."""
    return (
        json.dumps([sorted(alert["labels"].items()) for alert in alerts]),
        json.dumps([alert["status"] for alert in alerts]),
    )


def _alert(life: Life, start: float, *, firing: bool) -> dict[str, Any]:
    return {
        "status": "firing" if firing else "resolved",
        "labels": dict(life.labels),
        "annotations": {"summary": "simulated"},
        "startsAt": format_instant(EPOCH + start),
        "endsAt": "0001-01-01T00:00:00Z" if firing else format_instant(EPOCH + life.end),
        "generatorURL": "",
        "fingerprint": "0" * 16,
    }
