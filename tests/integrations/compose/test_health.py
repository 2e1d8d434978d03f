"""Tests of the probe compose.health, with a real Docker Engine."""

from __future__ import annotations

import asyncio
from typing import Any

from remediator.integrations.compose.health import Health
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import looking

CHECKED = {"healthcheck": {"test": ["CMD", "test", "-e", "/tmp/well"]}}


async def _health(project: Project, wanted: str) -> Any:
    for _ in range(200):
        if project.inspect("api")["State"]["Health"]["Status"] == wanted:
            break
        await asyncio.sleep(0.05)
    target = project.target()
    evidence = await Health().read(target, looking())
    await target.close()
    return evidence


async def test_health_is_what_the_health_checks_say() -> None:
    """Running is not enough where there is a health check; without one it is."""
    services = {
        "api": {**CHECKED, "command": ["sh", "-c", "rm -f /tmp/well; while true; do sleep 1; done"]},
        "db": {},
    }
    with engine().project(services) as project:
        project.up()
        evidence = await _health(project, "unhealthy")
        assert evidence["ok"] is False
        assert evidence["services"]["db"] == {
            "ok": True, "count": 1, "running": 1, "healthy": 0, "starting": 0, "unhealthy": 0
        }  # fmt: skip
        assert evidence["services"]["api"]["unhealthy"] == 1
        engine().request("DELETE", f"/containers/{project.inspect('api')['Id']}?force=true")
        project.services["api"]["command"] = ["sh", "-c", "touch /tmp/well; while true; do sleep 1; done"]
        project.create("api")
        assert (await _health(project, "healthy"))["ok"] is True


async def test_nothing_at_all_is_not_healthy() -> None:
    """A project without a container is down, not fine."""
    with engine().project() as project:
        target = project.target()
        evidence = await Health().read(target, looking())
        assert (evidence["ok"], evidence["count"], evidence["services"]) == (False, 0, {})
        await target.close()
