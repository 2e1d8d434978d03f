"""SIGTERM under load: what was answered with 200 is kept, and stopping makes no work for people."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from remediator.run import State
from tests.crash.scene import Scene, firing, over, scene


async def sender(it: Scene, number: int, until: float) -> None:
    """Ten deliveries a second, each of a new problem, each until it is accepted."""
    count = 0
    while time.monotonic() < until:
        begun = time.monotonic()
        await it.deliver(firing("limited", time.time(), n=f"{number}-{count}"))
        count += 1
        await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - begun)))


async def test_a_rolling_restart_under_fifty_deliveries_a_second(tmp_path: Path) -> None:
    """Terminated and started again twice while alerts pour in: all are kept, each acted on once, nobody is called."""
    rule = {
        "name": "limited", "mode": "auto", "when": {"alert": "limited"},
        "steps": [{"uses": "http.post", "target": "app", "with": {"path": "/limited"}, "timeout": "10s"}],
    }  # fmt: skip
    async with scene(tmp_path) as it:
        it.configure([rule])
        it.outside.delay = 0.2
        it.ending = True
        await it.start()
        until = time.monotonic() + 8
        senders = asyncio.gather(*(sender(it, number, until) for number in range(5)))
        for _ in range(2):
            await asyncio.sleep(1.5)
            before = it.server
            it.kill(signal.SIGTERM)
            while it.server is before:
                await it.alive()
                await asyncio.sleep(0.02)
        await senders
        assert it.deaths == [0, 0], "both ended in peace"
        sent = it.statuses[200]
        await it.until(over, count=sent, seconds=60)
        assert await it.stop() == 0
        history = await it.judge()
        states = [run.state for run in history.runs.values()]
        assert len(states) == sent
        assert set(states) == {State.SUCCEEDED}, {state: states.count(state) for state in set(states)}
        assert len(it.outside.effects) == sent
        assert sent > 150
