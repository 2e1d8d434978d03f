"""Tells what happens on the stage of the demonstration, while it happens and from what each part says itself.

Nothing here makes anything happen but the trouble at the beginning. What is told is read: the queue from the
minting service, the alert from Prometheus, the run and the audit log from Remediator's API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from remediator.clock import Clock
from remediator.demo.captured import THRESHOLD
from remediator.demo.stage import SECONDS_PER_MINT, Stage
from remediator.run import LIVE

MINTS = 3000
ALERT = "HighQueueDepth"
RULE = "minting-queue-backlog"
EVERY = 0.2
"""Seconds between two looks at everything."""

PATIENCE = 75.0
"""Seconds after which a story without an end has failed."""

Say = Callable[[str, str], None]
"""Prints one line: who, and what."""


@dataclass(frozen=True)
class End:
    """How the story ended."""

    run_id: str
    """Empty if no run was ever opened."""
    state: str
    reason: str

    @property
    def good(self) -> bool:
        """Whether the run succeeded."""
        return self.state == "succeeded"


@dataclass
class Story:
    """One demonstration, from the trouble to the run's end. Use it once."""

    stage: Stage
    clock: Clock
    say: Say
    _session: aiohttp.ClientSession = field(init=False)
    _deadline: float = 0.0
    _alert: str = "inactive"
    _told: set[str] = field(default_factory=set)
    _workers: int = 0
    _deep: bool = False
    _run_id: str = ""
    _state: str = ""

    async def tell(self) -> End:
        """Cause the trouble, tell what happens, and return how it ended, at the latest after ``PATIENCE``."""
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            self._deadline = self.clock.monotonic() + PATIENCE
            await self._opening()
            run: Mapping[str, Any] = {}
            while self.clock.monotonic() < self._deadline:
                # Causes before effects: what happened between two looks is told in the order it happened in.
                await self._look_at_alert()
                run = await self._look_at_run()
                await self._look_at_queue()
                if run and run["state"] not in LIVE:
                    await self._closing()
                    break
                await asyncio.sleep(EVERY)
            state, reason = run.get("state", ""), run.get("reason", "")
            return End(self._run_id, state, reason)

    async def _get(self, url: str) -> Any:
        async with self._session.get(url) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _opening(self) -> None:
        if self.stage.prometheus:
            await self._until_scraped()
        async with self._session.post(f"{self.stage.minting}/mint", json={"count": MINTS}) as answer:
            answer.raise_for_status()
        queue = await self._queue()
        self._workers = queue["workers"]
        rate = self._workers / SECONDS_PER_MINT
        self.say("service", f"{MINTS} mints are asked for at once; {self._workers} workers mint {rate:.0f} a second")

    async def _until_scraped(self) -> None:
        """Prometheus looks at its targets for the first time some seconds after it starts; let the story wait."""
        self.say("prometheus", "begins to scrape the service")
        while self.clock.monotonic() < self._deadline:
            answer = await self._get(f"{self.stage.prometheus}/api/v1/query?query=minting_queue_depth")
            if answer["data"]["result"]:
                return
            await asyncio.sleep(EVERY)

    async def _queue(self) -> Mapping[str, Any]:
        health = await self._get(f"{self.stage.minting}/health/detailed")
        queue: Mapping[str, Any] = health["components"]["queue"]
        return queue

    def _once(self, key: str, who: str, what: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self.say(who, what)

    async def _look_at_queue(self) -> None:
        queue = await self._queue()
        waiting, workers = queue["waiting"], queue["workers"]
        if workers != self._workers:
            self.say("service", f"{workers} workers mint now, {self._workers} did before; {waiting} mints wait")
            self._workers = workers
        if (waiting > THRESHOLD) != self._deep:
            self._deep = not self._deep
            how = f"over {THRESHOLD}: the queue backs up" if self._deep else f"not over {THRESHOLD} any more"
            self.say("service", f"{waiting} mints wait, {how}")

    async def _look_at_alert(self) -> None:
        state = "inactive"
        if self.stage.captured:
            state = self.stage.captured.state
        else:
            answer = await self._get(f"{self.stage.prometheus}/api/v1/alerts")
            for alert in answer["data"]["alerts"]:
                if alert["labels"]["alertname"] == ALERT:
                    state = alert["state"]
        if state == self._alert:
            return
        self._alert = state
        who = "prometheus" if self.stage.prometheus else "stand-in"
        meaning = {"pending": "is pending", "firing": "fires", "inactive": "is over"}
        self.say(who, f"alert {ALERT} {meaning[state]}")

    async def _look_at_run(self) -> Mapping[str, Any]:
        if not self._run_id:
            runs = (await self._get(f"{self.stage.remediator}/api/v1/runs?rule={RULE}"))["items"]
            if not runs:
                return {}
            self._run_id = runs[0]["id"]
            # Both may have come about since the last look at the alert, which is the cause.
            await self._look_at_alert()
            self.say("remediator", f"accepted the delivery and opened run {self._run_id} of rule {RULE}")
        run: Mapping[str, Any] = await self._get(f"{self.stage.remediator}/api/v1/runs/{self._run_id}")
        self._tell_details(run)
        if run["state"] != self._state:
            self._state = run["state"]
            why = f", {run['message']}" if run["message"] else ""
            self.say("remediator", f"run is {self._state}{why}")
        return run

    def _tell_details(self, run: Mapping[str, Any]) -> None:
        for name, evidence in run["evidence"].items():
            seen = brief(evidence["value"]) if evidence["ok"] else evidence["error"]
            self._once(f"evidence {name}", "remediator", f"looked, {evidence['uses']} on {evidence['target']}: {seen}")
        for verdict in run["verdicts"]:
            why = f", {verdict['message']}" if verdict["message"] else ""
            what = f"guard {verdict['guard']} says {verdict['decision']}{why}"
            self._once(what, "remediator", what)
        for step in run["steps"]:
            name, change, outcome = step["id"], step["change"], step["outcome"]
            if change:
                body = brief(change["after"].get("json"))
                self._once(f"change {name}", "remediator", f"step {name} will change: {change['summary']} {body}")
            if outcome:
                # Applied comes before done, and a look may fall between the two: each is told.
                state, answer = step["state"], brief(outcome.get("data", {}).get("json"))
                what = f"step {name} is {state}: {outcome.get('summary', '')} {answer}"
                self._once(f"outcome {name} {state}", "remediator", what)

    async def _closing(self) -> None:
        """Let the queue run empty, which takes a moment longer than the alert."""
        start = self.clock.monotonic()
        while self.clock.monotonic() - start < 10:
            await self._look_at_queue()
            await self._look_at_alert()
            queue = await self._queue()
            if not queue["waiting"] and not queue["active"]:
                self.say("service", f"the queue is empty; {queue['completed']} mints are completed")
                return
            await asyncio.sleep(EVERY)


def brief(value: Any, most: int = 150) -> str:
    """JSON data as ``path=value`` words, cut to ``most`` characters; HTTP headers and empty texts are left out."""
    words: list[str] = []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            for key, inner in node.items():
                if key != "headers":
                    walk(inner, f"{path}.{key}" if path else str(key))
        elif node not in ("", None):
            words.append(f"{path}={node}" if path else str(node))

    walk(value, "")
    text = " ".join(words)
    return text if len(text) <= most else text[: most - 1] + "…"


async def audit_records(stage: Stage) -> list[Mapping[str, Any]]:
    """Every audit record so far, oldest first, from Remediator's API."""
    found: list[Mapping[str, Any]] = []
    cursor: str | None = None
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            query = {"order": "asc", "limit": "1000"} | ({"cursor": cursor} if cursor else {})
            async with session.get(f"{stage.remediator}/api/v1/audit", params=query) as answer:
                answer.raise_for_status()
                page = await answer.json()
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found
