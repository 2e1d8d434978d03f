"""Stands in for Prometheus and Alertmanager where they are missing: sends bodies captured from real ones.

The bodies are Alertmanager's own, word for word; only their times are today's. They are sent when the queue
really is deep, and when it really has drained.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from remediator.clock import Clock, format_instant

THRESHOLD = 1000
"""The depth at which the shipped alert HighQueueDepth fires."""

FOR = 3.0
"""Seconds that the queue must be deep, as in the demonstration's alert rules."""

EVERY = 0.5
"""Seconds between two looks, and between two tries to deliver."""


def body(status: str, starts_at: float, ends_at: float | None) -> dict[str, Any]:
    """The captured body ``firing`` or ``resolved`` with these times (Unix seconds)."""
    text = resources.files("remediator.demo").joinpath("captured", f"{status}.json").read_text()
    delivery: dict[str, Any] = json.loads(text)
    for alert in delivery["alerts"]:
        alert["startsAt"] = format_instant(starts_at)
        if ends_at is not None:
            alert["endsAt"] = format_instant(ends_at)
    return delivery


@dataclass
class Captured:
    """Watches the queue of one minting service and delivers to one webhook, as Alertmanager would."""

    metrics: str
    """URL of the minting service's metrics."""
    webhook: str
    token: str
    clock: Clock
    state: str = "inactive"
    """``inactive``, ``pending`` or ``firing``, as Prometheus calls them."""
    _since: float = field(default=0.0, repr=False)

    async def run(self) -> None:
        """Watch and deliver until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(EVERY)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Look at the queue once, and deliver what has to be delivered."""
        now = self.clock.now()
        deep = await self._depth(session) > THRESHOLD
        if self.state == "inactive" and deep:
            self.state, self._since = "pending", now
        elif self.state == "pending" and not deep:
            self.state = "inactive"
        elif self.state == "pending" and now - self._since >= FOR:
            if await self._deliver(session, body("firing", self._since + FOR, None)):
                self.state = "firing"
        elif self.state == "firing" and not deep:
            ended = body("resolved", self._since + FOR, now)
            if await self._deliver(session, ended):
                self.state = "inactive"

    async def _depth(self, session: aiohttp.ClientSession) -> float:
        async with session.get(self.metrics) as answer:
            for family in text_string_to_metric_families(await answer.text()):
                for sample in family.samples:
                    if sample.name == "minting_queue_depth" and sample.labels["state"] == "waiting":
                        return float(sample.value)
        return 0.0

    async def _deliver(self, session: aiohttp.ClientSession, delivery: dict[str, Any]) -> bool:
        """True once it is accepted. What is refused or fails is tried again at the next look."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            async with session.post(self.webhook, json=delivery, headers=headers) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
