"""Kills the service with SIGKILL at every named point of the code, restarts it, and counts what was lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from remediator.crashpoint import CLOSED_LOOP, MONEY, POINTS
from remediator.run import State
from tests.crash.scene import NAMES, Scene, firing, over, resolved, scene, settled

PASSAGES = {
    "store.before_commit": (3, 6, 10),
    "store.after_commit": (3, 6, 10),
    "engine.after_licence": (1, 2, 3),
    "engine.after_apply": (1, 2, 3),
    "intake.after_commit": (1, 2),
}
"""Points that many kinds of work pass are tried at several passages, the others at their first."""
OTHERS = (*MONEY, *CLOSED_LOOP)
"""Points that none of these runs passes; tests of payments and of the closed loop are for them."""
CASES = [f"{point}:{number}" for point in POINTS if point not in OTHERS for number in PASSAGES.get(point, (1,))]


async def play(it: Scene, at: float, names: Sequence[str] = NAMES) -> None:
    """One round: alerts fire, are remedied, approved where asked, and resolve."""
    await it.deliver(*(firing(name, at) for name in names))
    await it.until(settled, count=len(names))
    await it.deliver(*(resolved(name, at) for name in names))
    await it.until(over, count=len(names))


@pytest.mark.parametrize("case", CASES)
async def test_a_death_here_loses_nothing_and_doubles_nothing(tmp_path: Path, case: str) -> None:
    """Acknowledged means kept, each run ends, nothing that must not be doubled is, and the audit verifies."""
    point = case.partition(":")[0]
    async with scene(tmp_path) as it:
        it.outside.slow = 2.5 if point == "worker.after_renew" else 0.0
        it.outside.look = 1.5 if point == "worker.drain" else 0.0
        await it.start(case)
        if point == "worker.drain":
            asyncio.get_running_loop().call_later(0.5, it.kill, signal.SIGTERM)
        # Only the action of Kubernetes waits for a post-condition of its own; its library takes a second to import.
        names = (*NAMES, "scaled") if point == "engine.after_verify" else NAMES
        await play(it, time.time(), names)
        assert it.deaths == [-signal.SIGKILL], f"the service was to die once at {case}, and ended with {it.deaths}"
        assert await it.stop() == 0
        history = await it.judge()
        assert len(history.runs) == len(names)
        for run in history.runs.values():
            if run.state is State.NEEDS_HUMAN:
                assert run.rule == "once", f"{run.rule} needs nobody: {run.message}"
            else:
                assert run.state is State.SUCCEEDED, f"{run.rule}: {run.state}, {run.reason}: {run.message}"


@pytest.mark.parametrize("path", ["/once", "/idempotent", "/keyed", "/approved"])
async def test_a_death_between_the_request_and_its_answer(tmp_path: Path, path: str) -> None:
    """The target has carried it out and we die before its answer: seen, repeated safely, or left to a person."""
    async with scene(tmp_path) as it:

        def pull_the_plug(asked: str) -> None:
            if asked == path and it.server is not None and not it.deaths:
                os.kill(it.server.pid, signal.SIGKILL)
                it.outside.on_request = lambda path: None

        it.outside.on_request = pull_the_plug
        await it.start()
        await play(it, time.time())
        assert it.deaths == [-signal.SIGKILL]
        assert await it.stop() == 0
        history = await it.judge()
        states = {run.rule: run.state for run in history.runs.values()}
        # The same death may catch the run of class ``once`` too; where it is aimed at it, it does.
        once = states.pop("once")
        assert once is State.NEEDS_HUMAN if path == "/once" else once in (State.NEEDS_HUMAN, State.SUCCEEDED)
        assert set(states.values()) == {State.SUCCEEDED}
