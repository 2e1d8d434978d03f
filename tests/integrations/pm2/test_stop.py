"""Tests of the action pm2.stop, with a real pm2 daemon."""

from __future__ import annotations

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2.start import Start
from remediator.integrations.pm2.stop import Stop
from tests.integrations.pm2.daemon import daemon
from tests.integrations.support import acting


async def _diff(action: Stop | Start) -> Change:
    return Change.from_json((await action.diff(daemon().target(), acting())).as_json())


async def test_taking_a_stop_back_starts_exactly_what_ran() -> None:
    """Of two instances one was stopped before: the inverse, read back from storage, starts only the other one."""
    it = daemon()
    with it.process() as name:
        it.pm2("scale", name, "2")
        first, second = (entry["pm_id"] for entry in it.list(name))
        it.pm2("stop", str(first))
        action = Stop(process=name)
        change = await _diff(action)
        assert change.before == {"running": [second]}
        with pytest.raises(TemporaryError, match="still runs"):
            await action.verify(it.target(), change, acting())
        await action.apply(it.target(), change, acting())
        await action.verify(it.target(), change, acting())
        inverse = action.inverse(change)
        assert inverse is not None
        back = Start.model_validate(inverse.model_dump(mode="json", by_alias=True, exclude_unset=True))
        await back.apply(it.target(), await _diff(back), acting())
        assert [entry["pm2_env"]["status"] for entry in it.list(name)] == ["stopped", "online"]
        assert (await _diff(back)).empty
        it.pm2("delete", str(second))
        with pytest.raises(PermanentError, match="no longer has the instance") as caught:
            await _diff(back)
        assert caught.value.reason == "changed"


async def test_stopping_again_after_a_crash_does_nothing() -> None:
    """Twice is once: the second time nothing is sent, and the change is empty, so that nothing can be undone."""
    it = daemon()
    with it.process() as name:
        action = Stop(process=name)
        change = await _diff(action)
        await action.apply(it.target(), change, acting())
        stops = it.stops(name)
        outcome = await action.apply(it.target(), change, acting())
        assert outcome.data["instances"] == []
        assert it.stops(name) == stops
        again = await _diff(action)
        assert again.empty
        assert action.inverse(again) is None


def test_trap_22_stopping_everything_asks_a_person() -> None:
    """`all` is a whole system: `*` in the permissions, and a yes in every mode."""
    target = daemon().target()
    assert Stop(process="all").needs_approval(target)
    assert Stop(process="all").needs() == {"processes": "*"}
    assert not Stop(process="worker").needs_approval(target)
