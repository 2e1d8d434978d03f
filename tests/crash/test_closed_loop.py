"""Kills the service with SIGKILL at every point of the closed loop: nothing stays half undone, or lent for ever."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from remediator.crashpoint import CLOSED_LOOP
from remediator.run import Kind, State
from tests.crash.scene import Scene, firing, over, post, resolved, rule, scene


def lever(path: str, **more: Any) -> dict[str, Any]:
    """A step that turns a lever to 1, whose way back turns it to 0."""
    return post(
        path, json=1, check={"path": path, "json_path": "n", "equals": 1},
        undo={"path": path, "json": 0},
    ) | {"timeout": "1s"} | more  # fmt: skip


LOOP = rule(
    "loop", "auto", [],
    remedies=[
        {"name": "first", "steps": [lever("/lever", lease={"settle": "10m", "at_most": "1h"})],
         "verify": {"until": "alert.resolved", "within": "100ms", "every": "50ms"}},
        {"name": "second", "steps": [lever("/lent", lease={"settle": "10ms", "at_most": "1h"})],
         "verify": {"until": "alert.resolved", "within": "1m", "every": "100ms"}},
    ],
    **{"finally": [post("/idempotent", idempotent=True)]},
)  # fmt: skip
"""Passes every point: the first remedy is undone, the second one helps, and what it lent goes back."""
del LOOP["steps"]


async def until(it: Scene, what: Any) -> None:
    """Until ``what`` says yes of the changes that are kept, restarting the service on the way."""
    deadline = time.monotonic() + 30
    while True:
        await it.alive()
        status, page = await it.ask("GET", "/api/v1/changes?state=succeeded&limit=100")
        if status == 200 and what(page["items"]):
            return
        assert time.monotonic() < deadline, (status, page, [(r["state"], r["message"]) for r in await it.runs()])
        await asyncio.sleep(0.03)


async def play(it: Scene, number: int) -> None:
    """One round: the first remedy does not help, the second one does, and what it lent goes back."""
    labels, at = {"n": str(number)}, time.time()
    await it.deliver(firing("loop", at, **labels))
    await until(it, lambda changes: it.outside.levers == {"/lever": 0, "/lent": 1})
    await it.deliver(resolved("loop", at, **labels))
    await until(it, lambda changes: len(changes) == 2 * number)
    assert it.outside.levers == {"/lever": 0, "/lent": 0}
    await it.until(over, count=number)


async def test_a_death_anywhere_in_the_closed_loop_leaves_nothing_behind(tmp_path: Path) -> None:
    """One death at each point: what did not help is undone once, what helped goes back once, final steps have run."""
    async with scene(tmp_path) as it:
        it.configure([LOOP])
        # From the last point to the first: whoever takes over passes few of the points at which it shall die itself.
        first, *it.crashes = CLOSED_LOOP[::-1]
        await it.start(first)
        for number in range(1, len(CLOSED_LOOP) + 1):
            await play(it, number)
            if len(it.deaths) == len(CLOSED_LOOP):
                break
            assert len(it.deaths) >= number, f"nothing died before {it.crashes}"
        assert it.deaths == [-signal.SIGKILL] * len(CLOSED_LOOP)
        assert await it.stop() == 0
        history = await it.judge()
        for run in history.runs.values():
            steps = [row.step for row in history.rows if row.run_id == run.id and row.state == "done"]
            where = f"{run.kind} of {run.incident_id}: {run.reason}: {run.message}"
            assert run.state is State.SUCCEEDED, where
            if run.kind is Kind.REMEDY:
                assert [each["state"] for each in run.progress["remedies"]] == ["ineffective", "helped"], where
                # Turned, turned back, the other lever turned, and the final step.
                assert [step for step in steps if step != 2] == [0, 3, 1] and 2 in steps, f"{where}: {steps}"
            else:
                assert run.reason == ("already_back" if run.about.endswith("/0") else "reverted"), where
                assert len(steps) == (run.reason == "reverted"), where
