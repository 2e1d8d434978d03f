"""What is told of a run, look by look: each state of a step once, whenever the look falls."""

from __future__ import annotations

from typing import Any, cast

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
