"""Tests of the action compose.start, with a real Docker Engine."""

from __future__ import annotations

import pytest

from remediator.action import Change
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose.start import Start
from remediator.integrations.compose.stop import Stop
from tests.integrations.compose.engine import engine
from tests.integrations.support import acting


async def test_what_runs_is_left_alone_and_what_is_stopped_is_started() -> None:
    """Only the stopped container is started, once; the other one keeps its life, and so does the inverse."""
    with engine().project() as project:
        project.create("worker", 1)
        project.create("worker", 2, start=False)
        life = project.inspect("worker", 1)["State"]["StartedAt"]
        target, action = project.target(), Start(service="worker")
        change = Change.from_json((await action.diff(target, acting())).as_json())
        with pytest.raises(TemporaryError, match="container 2 of worker is created"):
            await action.verify(target, change, acting())
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        assert project.inspect("worker", 1)["State"]["StartedAt"] == life
        started = project.inspect("worker", 2)["State"]["StartedAt"]
        await action.apply(target, change, acting())
        assert project.inspect("worker", 2)["State"]["StartedAt"] == started
        assert action.inverse(change) == Stop(service="worker", containers=[2])
        assert action.inverse(await action.diff(target, acting())) is None
        await target.close()


async def test_it_creates_nothing() -> None:
    """A service that was removed has no container to start: that is an error and not an empty success."""
    with engine().project() as project:
        target = project.target()
        with pytest.raises(PermanentError, match="no container of a service"):
            await Start(service="worker").diff(target, acting())
        await target.close()
