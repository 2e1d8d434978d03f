"""Chaos: a service that is killed, stopped for longer than its lease, and reloaded while alerts keep coming."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from remediator.run import State
from remediator.store import EffectRow
from tests.crash.scene import NAMES, RULES, Scene, firing, over, resolved, scene

SECONDS = float(os.environ.get("REMEDIATOR_CHAOS_SECONDS", "20"))
"""How long the trouble lasts; set it higher for a long night."""
LEASE = 5.0


async def alertmanager(it: Scene, dice: random.Random, number: int, until: float) -> None:
    """One of several senders: problems begin, are told twice or late, and end."""
    names = [*NAMES, "limited"]
    while time.monotonic() < until:
        name, labels, at = dice.choice(names), {"n": str(dice.randrange(40)), "from": str(number % 2)}, time.time()
        await it.deliver(firing(name, at, **labels))
        if dice.random() < 0.5:
            await it.deliver(firing(name, at, **labels))
        await asyncio.sleep(dice.uniform(0.05, 0.6))
        await it.deliver(resolved(name, at, **labels))
        if dice.random() < 0.3:
            await it.deliver(firing(name, at, **labels))  # Late: the problem is over.
        await asyncio.sleep(dice.uniform(0.0, 0.3))


async def trouble(it: Scene, dice: random.Random, until: float) -> dict[str, int]:
    """Something bad every second or so; what there was of each."""
    had = {"kill": 0, "stop": 0, "reload": 0}
    while time.monotonic() < until:
        await asyncio.sleep(dice.uniform(0.4, 1.5))
        what = dice.choice(["kill", "kill", "stop", "reload"])
        had[what] += 1
        if what == "kill":
            it.kill()
            await it.alive()
        elif what == "stop":
            it.kill(signal.SIGSTOP)
            # Longer than the lease now and then: whoever wakes up must begin nothing on an old licence.
            await asyncio.sleep(dice.choice([0.3, 1.0, LEASE + 1.5]))
            it.kill(signal.SIGCONT)
        else:
            rules = [{**each, "description": f"version {had['reload']}"} for each in RULES]
            it.configure(rules[: dice.choice([len(rules), len(rules) - 1])])
            await it.answering()  # A process that is only just starting has no ear for signals yet.
            it.kill(signal.SIGHUP)
    return had


async def test_chaos_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Every invariant holds after a time in which everything happened to the process that can happen to one."""
    seed = int(os.environ.get("REMEDIATOR_CHAOS_SEED", str(random.randrange(10**6))))
    print(f"REMEDIATOR_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    async with scene(tmp_path) as it:
        it.outside.delay = 0.05
        await it.start()
        until = time.monotonic() + SECONDS
        senders = [alertmanager(it, random.Random(seed + number), number, until) for number in range(4)]
        told = asyncio.gather(*senders)
        had = await trouble(it, dice, until)
        await told
        it.configure()
        it.kill(signal.SIGHUP)
        await it.alive()
        runs = await it.runs()
        await it.until(over, count=len([r for r in runs if r["rule"] != "limited"]), seconds=60)
        assert await it.stop() == 0
        history = await it.judge(ended=False)
        print(f"{had}, {dict(it.statuses)}, {len(history.runs)} runs, {len(it.outside.effects)} effects")
        assert had["kill"] > 2
        assert it.statuses[200] > 50
        assert len(history.runs) > 30
        _limit_held(history.rows)
        for effect in it.outside.effects:
            before = [
                row.licensed_at
                for row in history.rows
                if (row.run_id, str(row.step)) == (effect.run, effect.step) and row.licensed_at <= effect.begun + 0.01
            ]
            late = effect.begun - max(before)
            assert late < 0.8 * LEASE + 0.5, f"{effect} began {late} s after its licence"
        for run in history.runs.values():
            if run.state is State.NEEDS_HUMAN:
                assert run.rule in ("once", "limited"), f"{run.rule} needs nobody: {run.message}"


def _limit_held(rows: Sequence[EffectRow]) -> None:
    """Five runs an hour are five, whatever died in between."""
    runs = {row.run_id for row in rows if row.action == "http.post" and row.change["after"]["url"].endswith("/limited")}
    assert len(runs) <= 5
