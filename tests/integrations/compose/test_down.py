"""Tests of the action compose.down, with a real Docker Engine."""

from __future__ import annotations

import pytest

from remediator.errors import TemporaryError
from remediator.integrations.compose.down import Down
from tests.integrations.compose.engine import engine
from tests.integrations.support import acting


async def test_everything_goes_and_nothing_else_does() -> None:
    """Running, stopped and half-removed containers of the project go; another project stays; twice is once."""
    with engine().project({"a": {}, "b": {}}) as project, engine().project() as other:
        project.create("a")
        project.create("b", start=False)
        other.create("worker")
        target, action = project.target(), Down(grace=0)
        change = await action.diff(target, acting())
        assert change.before == {"containers": {"a": 1, "b": 1}}
        with pytest.raises(TemporaryError, match="2 containers are still there"):
            await action.verify(target, change, acting())
        engine().request("POST", f"/containers/{project.inspect('a')['Id']}/stop?t=0")  # As far as a crash left it.
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
        assert project.containers() == []
        assert other.states() == {"worker_1": "running"}
        again = await action.apply(target, change, acting())
        assert again.data == {"removed": 0}
        assert (await action.diff(target, acting())).empty
        assert action.inverse(change) is None
        await target.close()


def test_trap_22_down_always_asks_a_person() -> None:
    """It is the whole system: `*` in the permissions, not the name of any service, and a yes in every mode."""
    with engine().project() as project:
        action = Down()
        assert action.needs_approval(project.target())
        assert action.subject() == ""
        narrow = project.target(permit={"actions": ["compose.down"], "services": ["worker", "a*", "*b", "all"]})
        assert narrow.refusal("compose.down", action.needs())
        assert project.target().refusal("compose.down", action.needs()) is None
