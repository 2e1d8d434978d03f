"""Tests of the probe compose.ps, with a real Docker Engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediator.errors import PermanentError
from remediator.integrations.compose.ps import Ps
from tests.integrations.compose.engine import IMAGE, engine
from tests.integrations.support import looking


async def test_the_evidence_is_states_without_environments() -> None:
    """Running and ended containers come back with their exit codes; their environment, secrets and all, never does."""
    services: dict[str, dict[str, Any]] = {
        "api": {"environment": {"PASSWORD": "canary-password"}},
        "task": {"command": ["sh", "-c", "exit 3"]},
    }
    with engine().project(services) as project:
        project.up()
        target = project.target()
        assert "canary-password" in str(project.inspect("api"))
        for _ in range(200):
            if project.states()["task_1"] == "exited":
                break
        evidence = await Ps().read(target, looking())
        assert "canary" not in json.dumps(evidence)
        assert (evidence["count"], evidence["running"]) == (2, 1)
        api, task = evidence["containers"]
        assert api["started_at"] > 1_600_000_000
        assert {key: value for key, value in task.items() if key != "started_at"} == {
            "service": "task", "number": 1, "state": "exited", "health": "none", "exit_code": 3, "restarts": 0,
            "image": IMAGE,
        }  # fmt: skip
        assert (await Ps(service="api").read(target, looking()))["count"] == 1
        with pytest.raises(PermanentError, match="no container of a service"):
            await Ps(service="nothing").read(target, looking())
        await target.close()


def test_everything_needs_more_than_one_service() -> None:
    """Without a service the whole project is looked at, which only `*` permits."""
    assert Ps().needs() == {"services": "*"}
    assert Ps(service="api").needs() == {"services": "api"}
