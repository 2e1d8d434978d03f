"""rate_limit: the bound that the licence counts, and what is refused when rules load."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, GuardContext, Limit
from remediator.guards.rate_limit import RateLimit

CONTEXT = GuardContext(
    run_id="r", rule="a", mode="auto", now=0.0, labels={}, severity="", targets=("prod",), created_at=0.0,
    evidence={}, approved=False, pauses={},
)  # fmt: skip


async def test_leaves_the_counting_to_the_licence() -> None:
    """The guard itself allows; its limit says how many runs may have begun within the window."""
    guard = RateLimit.model_validate({"runs": 3, "per": "1h", "scope": "target"})
    assert (await guard.check(CONTEXT)).decision is Decision.ALLOW
    assert guard.limits(CONTEXT) == (Limit(guard="rate_limit", scope="target", runs=3, window=3600.0, since="start"),)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"runs": 0, "per": "1h"}, "stops the rule for ever"),
        ({"runs": -1, "per": "1h"}, "stops the rule for ever"),
        ({"runs": 1, "per": "0s"}, "limits nothing"),
        ({"runs": 1}, "Field required"),
        ({"per": "1h"}, "Field required"),
        ({"runs": 1.5, "per": "1h"}, "valid integer"),
        ({"runs": True, "per": "1h"}, "valid integer"),
        ({"runs": 1, "per": 60}, "a duration is text with a unit"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(parameters: dict[str, object], message: str) -> None:
    """No runs, no window, half a run and a number without a unit are refused with a sentence."""
    with pytest.raises(ValidationError, match=message):
        RateLimit.model_validate(parameters)
