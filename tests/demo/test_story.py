"""What is told of a run, look by look: each state of a step once, whenever the look falls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from remediator.clock import SystemClock
from remediator.demo.stage import Stage
from remediator.demo.story import Story


def test_a_step_that_is_seen_between_applied_and_done_is_told_twice() -> None:
    """A look that falls before the step is confirmed hides nothing of what comes after it."""
    told: list[str] = []
    story = Story(cast(Stage, None), SystemClock(), lambda who, what: told.append(what))

    def run(state: str) -> dict[str, Any]:
        step = {"id": "workers", "state": state, "change": None, "outcome": {"summary": "answered 200", "data": {}}}
        return {"evidence": {}, "verdicts": [], "steps": [step]}

    for state in ("applied", "applied", "done", "done"):
        story._tell_details(run(state))
    assert [what.rstrip() for what in told] == [
        "step workers is applied: answered 200",
        "step workers is done: answered 200",
    ]


async def test_an_alert_that_fired_since_the_last_look_is_told_before_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause is told before the effect, although both came about between two looks."""
    told: list[str] = []
    stage = SimpleNamespace(captured=SimpleNamespace(state="inactive"), prometheus="", remediator="")
    story = Story(cast(Stage, stage), SystemClock(), lambda who, what: told.append(what))
    run = {"id": "r1", "state": "running", "message": "", "evidence": {}, "verdicts": [], "steps": []}

    async def answer(url: str) -> Any:
        return {"items": [run]} if "?" in url else run

    monkeypatch.setattr(story, "_get", answer)
    await story._look_at_alert()
    stage.captured.state = "firing"
    await story._look_at_run()
    assert [what.split(" ")[0] for what in told] == ["alert", "accepted", "run"]
    assert told[0] == "alert HighQueueDepth fires"
