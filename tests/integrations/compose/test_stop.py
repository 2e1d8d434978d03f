"""Tests of the action compose.stop, with a real Docker Engine."""

from __future__ import annotations

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose.start import Start
from remediator.integrations.compose.stop import Stop
from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.compose.engine import engine
from tests.integrations.support import acting


async def _diff(target: ComposeTarget, action: Stop | Start) -> Change:
    return Change.from_json((await action.diff(target, acting())).as_json())


async def test_taking_a_stop_back_starts_exactly_what_ran() -> None:
    """Of two containers one was stopped before: the inverse, read back from storage, starts only the other one."""
    with engine().project() as project:
        project.create("worker", 1, start=False)
        second = project.create("worker", 2)
        target, action = project.target(), Stop(service="worker", grace=1)
        change = await _diff(target, action)
        assert change.before == {"running": [2]}
        with pytest.raises(TemporaryError, match="still runs"):
            await action.verify(target, change, acting())
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        again = await action.apply(target, change, acting())
        assert again.data["containers"] == [], "done again after a crash it does nothing"
        inverse = action.inverse(change)
        assert inverse is not None
        back = Start.model_validate(inverse.model_dump(mode="json", by_alias=True, exclude_unset=True))
        await back.apply(target, await _diff(target, back), acting())
        assert project.states() == {"worker_1": "created", "worker_2": "running"}
        assert (await _diff(target, back)).empty
        engine().request("DELETE", f"/containers/{second}?force=true")
        with pytest.raises(PermanentError, match="no longer has the container 2") as caught:
            await _diff(target, back)
        assert caught.value.reason == "changed"
        await target.close()


async def test_the_grace_is_what_a_container_gets() -> None:
    """A container that ignores the friendly signal is killed after the grace, and not before."""
    script = "trap '' TERM; while true; do sleep 1; done"
    services = {"worker": {"command": ["sh", "-c", script], "stop_signal": "SIGTERM"}}
    with engine().project(services) as project:
        project.create("worker")
        target, action = project.target(), Stop(service="worker", grace=1)
        await action.apply(target, await _diff(target, action), acting())
        assert project.inspect("worker")["State"]["ExitCode"] == 137
        assert action.inverse(await _diff(target, action)) is None
        await target.close()
