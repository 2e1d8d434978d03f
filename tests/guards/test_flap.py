"""flap: the beginning of a problem that is one too many holds, until the oldest has left the window, to the second."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.guard import Decision
from remediator.guards.flap import Flap
from tests.guards.context import NOW, Said, context

MINUTE = 60.0


@pytest.mark.parametrize("lives", [1, 2, 3])
async def test_as_many_lives_as_are_allowed_are_no_flapping(lives: int) -> None:
    """Up to three times within half an hour is bad luck."""
    facts = Said(begun=[NOW - MINUTE * n for n in range(lives)])
    assert (await Flap().check(context(facts))).decision is Decision.ALLOW


async def test_one_more_holds_until_the_oldest_is_out_of_the_window() -> None:
    """The fourth life waits until the first is half an hour old, and not a second longer."""
    facts = Said(begun=[NOW, NOW - 300, NOW - 600, NOW - 900])
    verdict = await Flap().check(context(facts))
    assert (verdict.decision, verdict.reason, verdict.until) == (Decision.HOLD, "flap", NOW + 900)
    assert (await Flap().check(context(facts, at=NOW + 899))).decision is Decision.HOLD
    assert (await Flap().check(context(facts, at=NOW + 900))).decision is Decision.ALLOW


async def test_of_many_lives_the_newest_decide() -> None:
    """A problem that flaps for hours is held until it has been calm, whatever was before."""
    facts = Said(begun=[NOW - MINUTE * n for n in range(100)])
    assert (await Flap.model_validate({"lives": 3, "within": "30m"}).check(context(facts))).until == NOW - 180 + 1800


@pytest.mark.parametrize("parameters", [{"lives": 0}, {"within": "0s"}, {"lives": 1.5}, {"within": 60}])
def test_what_guards_nothing_is_refused(parameters: dict[str, object]) -> None:
    """No life at all and no window are refused when rules load."""
    with pytest.raises(ValidationError):
        Flap.model_validate(parameters)


def test_history_is_kept_as_long_as_it_looks_back() -> None:
    """Retention may not take what the guard counts; a plain number is how many lives."""
    assert (Flap().looks_back(), Flap.shorthand) == (1800.0, "lives")
