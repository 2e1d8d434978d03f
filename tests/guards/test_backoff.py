"""backoff: the wait after the last failure, to the second, longer each time, and forgotten after a success."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.guard import Decision
from remediator.guards.backoff import Backoff
from tests.guards.context import NOW, Said, context, ended


@pytest.mark.parametrize(("failures", "wait"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (99, 3600)])
async def test_each_failure_doubles_the_wait(failures: int, wait: float) -> None:
    """One, two, four minutes, never more than an hour; one second earlier is too early."""
    facts = Said(runs=[ended(NOW - n) for n in range(failures)])
    verdict = await Backoff().check(context(facts, at=NOW + wait - 1))
    assert (verdict.decision, verdict.reason, verdict.until) == (Decision.HOLD, "backoff", NOW + wait)
    assert (await Backoff().check(context(facts, at=NOW + wait))).decision is Decision.ALLOW
    assert facts.asked[0][0] == "incident"


async def test_a_success_makes_the_next_failure_the_first() -> None:
    """What failed before it helped is over."""
    facts = Said(runs=[ended(NOW), ended(NOW - 1, "succeeded"), ended(NOW - 2), ended(NOW - 3)])
    assert (await Backoff().check(context(facts, at=NOW + 59))).until == NOW + 60
    helped = Said(runs=[ended(NOW, "succeeded"), ended(NOW - 1)])
    assert (await Backoff().check(context(helped))).decision is Decision.ALLOW


async def test_old_failures_are_forgotten() -> None:
    """A day later they make nothing wait longer."""
    facts = Said(runs=[ended(NOW), *(ended(NOW - 86400 - n) for n in range(1, 9))])
    assert (await Backoff().check(context(facts, at=NOW + 30))).until == NOW + 60


async def test_what_did_not_help_has_failed() -> None:
    """Done, verified and without effect waits like a failure; nothing done at all does not."""
    facts = Said(runs=[ended(NOW, "failed", "ineffective"), ended(NOW - 1, "cancelled")])
    assert (await Backoff().check(context(facts))).until == NOW + 60
    assert (await Backoff().check(context(Said()))).decision is Decision.ALLOW


def test_waits_as_it_is_told() -> None:
    """Another first wait, another factor and another bound."""
    guard = Backoff.model_validate({"first": "10s", "factor": 3.0, "at_most": "5m"})
    assert [guard.wait(n) for n in (1, 2, 3, 4, 5, 10**6)] == [10, 30, 90, 270, 300, 300]
    assert guard.looks_back() == 86400.0


@pytest.mark.parametrize("parameters", [
    {"first": "0s"}, {"factor": 0.5}, {"first": "2h", "at_most": "1h"}, {"forget": "0s"}, {"scope": "service"},
])  # fmt: skip
def test_waits_that_make_no_sense_are_refused(parameters: dict[str, object]) -> None:
    """No wait, one that gets shorter, and a bound below the first are refused when rules load."""
    with pytest.raises(ValidationError):
        Backoff.model_validate(parameters)
