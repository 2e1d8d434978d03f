"""cooldown: the bound that the licence counts, and what is refused when rules load."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, GuardContext, Limit
from remediator.guards.cooldown import Cooldown

CONTEXT = GuardContext(
    run_id="r", rule="a", mode="auto", now=0.0, labels={}, severity="", targets=("prod",), created_at=0.0,
    evidence={}, approved=False, pauses={},
)  # fmt: skip


async def test_leaves_the_counting_to_the_licence() -> None:
    """The guard itself allows; its limit says that no run may act while another's effect is younger than the time."""
    guard = Cooldown.model_validate({"for": "10m"})
    assert (await guard.check(CONTEXT)).decision is Decision.ALLOW
    assert guard.limits(CONTEXT) == (Limit(guard="cooldown", scope="rule", runs=1, window=600.0, since="end"),)


@pytest.mark.parametrize("scope", ["rule", "incident", "target", "global"])
def test_counts_in_any_scope(scope: str) -> None:
    """The bound can be on the rule, the very problem, the target, or on everything."""
    (limit,) = Cooldown.model_validate({"for": "1s", "scope": scope}).limits(CONTEXT)
    assert limit.scope == scope


@pytest.mark.parametrize(
    "parameters", [{}, {"for": "0s"}, {"for": 10}, {"for": "-5m"}, {"for": "10m", "scope": "world"}, {"for_": "10m"}]
)
def test_a_cooldown_that_guards_nothing_is_refused(parameters: dict[str, object]) -> None:
    """No time, no unit, a negative time, an unknown scope and a misspelt key are refused when rules load."""
    with pytest.raises(ValidationError):
        Cooldown.model_validate(parameters)


def test_may_be_written_short() -> None:
    """``cooldown: 10m`` is short for the time alone."""
    assert Cooldown.shorthand == "for"
