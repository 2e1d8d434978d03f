"""pause: the kill switch holds everything it names, and says who pressed it and why."""

from __future__ import annotations

import pytest

from remediator.guard import Decision, GuardContext
from remediator.guards.pause import Pause


def context(**pauses: str) -> GuardContext:
    """A run of rule ``a`` on ``prod`` and ``api`` while ``pauses`` are in force (``_`` stands for ``:``)."""
    return GuardContext(
        run_id="r", rule="a", mode="auto", now=0.0, labels={}, severity="", targets=("prod", "api"), created_at=0.0,
        evidence={}, approved=True, pauses={scope.replace("_", ":"): reason for scope, reason in pauses.items()},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pauses", "named"),
    [
        ({"global": "storm"}, "everything is paused: storm"),
        ({"rule_a": "flaps"}, 'rule "a" is paused: flaps'),
        ({"target_prod": "deploy"}, 'target "prod" is paused: deploy'),
        ({"target_api": ""}, 'target "api" is paused: no reason given'),
        ({"target_api": "x", "global": "storm"}, "everything is paused: storm"),
    ],
)
async def test_holds_what_is_paused(pauses: dict[str, str], named: str) -> None:
    """A pause of everything, of the rule or of any of its targets holds the run, approved or not, and says why."""
    verdict = await Pause().check(context(**pauses))
    assert (verdict.decision, verdict.reason, verdict.message) == (Decision.HOLD, "paused", named)


@pytest.mark.parametrize("pauses", [{}, {"rule_b": "x"}, {"target_other": "x"}, {"rule": "x"}])
async def test_lets_everything_else_go_on(pauses: dict[str, str]) -> None:
    """A pause of another rule or another target does not hold this run."""
    assert (await Pause().check(context(**pauses))).decision is Decision.ALLOW
