"""Proves the three answers of a guard, and that its YAML is read strictly."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from remediator.guard import Decision, Guard, GuardContext, Limit, Verdict


class _Always(Guard):
    times: int = 1

    async def check(self, context: GuardContext) -> Verdict:
        return Verdict.allow()


def _context() -> GuardContext:
    return GuardContext(
        run_id="r", rule="rule", mode="auto", now=1.0, labels={}, severity="", targets=(), created_at=0.0, evidence={},
        approved=False, pauses={},
    )  # fmt: skip


def test_the_three_answers() -> None:
    """Allow says no reason; hold and deny always do, and only hold says until when."""
    assert Verdict.allow("fine") == Verdict(Decision.ALLOW, "", "fine")
    assert Verdict.hold("cooldown", "not yet", 60.0) == Verdict(Decision.HOLD, "cooldown", "not yet", 60.0)
    assert Verdict.hold("paused", "stop").until is None
    assert Verdict.deny("never", "no") == Verdict(Decision.DENY, "never", "no")


@pytest.mark.parametrize("given", [{"tims": 1}, {"times": "1"}, {"times": True}, {"times": 1.0}])
def test_a_guard_takes_only_what_it_knows(given: dict[str, object]) -> None:
    """A misspelt or mistyped parameter of a guard is an error and never a guard with its default."""
    with pytest.raises(ValidationError):
        _Always.model_validate(given)


def test_a_guard_cannot_be_changed_by_a_run() -> None:
    """Guards, what they see and what they answer are fixed: one run cannot loosen the guard of the next."""
    guard = _Always()
    with pytest.raises(ValidationError):
        guard.__setattr__("times", 2)
    for value in (_context(), Verdict.allow(), Limit(guard="g", scope="rule", runs=1, window=1.0)):
        name = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "other")


def test_a_guard_without_limits_has_none() -> None:
    """Only guards that count ask the store to count."""
    assert list(_Always().limits(_context())) == []


def test_a_guard_that_answers_nothing_is_no_guard() -> None:
    """A guard without its one question cannot be made."""

    class Silent(Guard):
        pass

    with pytest.raises(TypeError):
        Silent()  # type: ignore[abstract]  # that is what is tried
