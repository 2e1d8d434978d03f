"""Tests of the action pm2.scale, with a real pm2 daemon."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2.scale import Scale
from tests.integrations.pm2.daemon import daemon
from tests.integrations.support import acting


async def _diff(action: Scale) -> Change:
    return Change.from_json((await action.diff(daemon().target(), acting())).as_json())


async def test_a_relative_wish_is_an_absolute_number_that_is_never_added_twice() -> None:
    """`by: 2` becomes 1 → 3 when it is shown; carried out twice it is still 3, as after a crash."""
    it = daemon()
    with it.process() as name:
        action = Scale(process=name, by=2, max=4)
        change = await _diff(action)
        assert (change.before, change.after) == ({"instances": 1}, {"instances": 3})
        await action.apply(it.target(), change, acting())
        await action.apply(it.target(), change, acting())
        await action.verify(it.target(), change, acting())
        assert len(it.list(name)) == 3
        assert (await _diff(action)).after == {"instances": 4}, "max bounds what is relative"
        with pytest.raises(TemporaryError, match="3 instances by now"):
            await action.apply(
                it.target(), Change(summary="", before={"instances": 5}, after={"instances": 4}), acting()
            )


async def test_the_inverse_goes_back_only_from_what_it_left() -> None:
    """Taken back days later: 3 → 1; nothing if it is 1 already; refused if somebody made it 2."""
    it = daemon()
    with it.process() as name:
        action = Scale(process=name, at_least=3, max=3)
        change = await _diff(action)
        stored = action.inverse(change).model_dump(mode="json", by_alias=True, exclude_unset=True)
        inverse = Scale.model_validate(stored)
        await action.apply(it.target(), change, acting())
        it.pm2("scale", name, "2")
        with pytest.raises(PermanentError, match="not the 3") as caught:
            await _diff(inverse)
        assert caught.value.reason == "changed"
        it.pm2("scale", name, "3")
        await inverse.apply(it.target(), await _diff(inverse), acting())
        assert len(it.list(name)) == 1
        assert (await _diff(inverse)).empty


async def test_never_downwards_by_accident_and_never_what_is_stopped() -> None:
    """at_least leaves more alone, exact lowers only when told, at_most lowers, and a stopped process stays so."""
    it = daemon()
    with it.process() as name:
        it.pm2("scale", name, "3")
        assert (await _diff(Scale(process=name, at_least=2, max=4))).empty
        with pytest.raises(PermanentError, match="would lower it"):
            await _diff(Scale(process=name, exact=2, max=4))
        assert (await _diff(Scale(process=name, exact=2, max=4, allow_down=True))).after == {"instances": 2}
        assert (await _diff(Scale(process=name, at_most=2))).after == {"instances": 2}
        assert (await _diff(Scale(process=name, by=-5, min=2))).after == {"instances": 2}
        it.pm2("stop", name)
        with pytest.raises(PermanentError, match="on purpose"):
            await _diff(Scale(process=name, at_least=4, max=4))
        with pytest.raises(PermanentError, match="not one process"):
            await _diff(Scale(process="all", at_least=4, max=4))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "exactly one"),
        ({"at_least": 2, "by": 1, "max": 3}, "exactly one"),
        ({"by": 0}, "must not be 0"),
        ({"at_least": 2}, "write max"),
        ({"by": 1}, "write max"),
        ({"exact": 5, "max": 4}, "above max"),
        ({"at_least": 2, "max": 2, "min": 3}, "above max"),
        ({"at_most": 0}, "use stop"),
        ({"at_most": 2, "allow_down": True}, "goes with exact"),
        ({"at_least": "2", "max": 3}, "valid integer"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    """Wrong parameters are found when the rules are read, and the message says what to write."""
    with pytest.raises(ValidationError, match=says):
        Scale.model_validate({"process": "worker", **wrong})
