"""Tests of the action compose.ordered_startup, with a real Docker Engine and the real Compose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remediator.action import Change
from remediator.errors import TemporaryError
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose.ordered_shutdown import OrderedShutdown
from remediator.integrations.compose.ordered_startup import OrderedStartup
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import acting

ACTION = OrderedStartup()
READY = {"healthcheck": {"test": ["CMD", "test", "-e", "/data/ready"], "interval": "200ms", "retries": 2}}
SERVICES: dict[str, dict[str, Any]] = {"db": READY, "api": {}, "indexer": {}}
ORDER: dict[str, Any] = {
    "startup": [
        {"name": "stores", "services": ["db"], "within": "20s"},
        {"name": "apps", "services": ["api"], "wait": ["migrated"], "within": "20s"},
        {"name": "late", "services": ["indexer"], "within": "20s"},
    ],
    "checks": {"migrated": {"service": "db", "exec": ["test", "-e", "/data/migrated"]}},
}


async def _touch(project: Project, *files: str) -> None:
    target = project.target()
    it = await target.engine()
    (db,) = [each for each in await it.containers() if each.service == "db"]
    assert (await it.ask(db, ["touch", *(f"/data/{file}" for file in files)], 10))[0] == 0
    await target.close()


async def _until(project: Project, running: set[str]) -> None:
    for _ in range(400):
        found = {name.removesuffix("_1") for name, state in project.states().items() if state == "running"}
        if found == running:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{project.states()}: {running} were to run")


async def test_each_stage_is_well_before_the_next_begins() -> None:
    """The store must be healthy, then the check must hold; what was removed is made anew by Compose."""
    with engine().project(SERVICES) as project:
        project.create("db", start=False)
        project.create("api", start=False)
        target = project.target(**ORDER)
        change = Change.from_json((await ACTION.diff(target, acting())).as_json())
        assert change.before["services"] == {"db": "stopped", "api": "stopped", "indexer": "missing"}
        task = asyncio.ensure_future(ACTION.apply(target, change, acting()))
        await _until(project, {"db"})
        await asyncio.sleep(1)
        assert project.states()["api_1"] == "created", "the store runs, but it is not healthy"
        with pytest.raises(TemporaryError, match="api is created"):
            await ACTION.verify(target, change, acting())
        await _touch(project, "ready")
        await _until(project, {"db", "api"})
        await asyncio.sleep(1)
        assert not task.done()
        await _touch(project, "migrated")
        assert (await task).data["started"] == ["db", "api", "indexer"]
        await ACTION.verify(target, change, acting())
        assert (await ACTION.diff(target, acting())).empty
        assert ACTION.inverse(change) == OrderedShutdown(services=["api", "db", "indexer"])
        assert ACTION.inverse(await ACTION.diff(target, acting())) is None
        await target.close()


async def test_done_again_it_leaves_alone_what_runs() -> None:
    """A store that runs keeps its life; only the rest is started, and only the stages that were asked for."""
    with engine().project({"db": {}, "api": {}, "indexer": {}}) as project:
        project.create("db")
        project.create("api", start=False)
        project.create("indexer", start=False)
        life = project.inspect("db")["State"]["StartedAt"]
        order = {"startup": [{**stage, "wait": []} for stage in ORDER["startup"]]}
        target, action = project.target(**order), OrderedStartup(stages=["stores", "apps"])
        change = await action.diff(target, acting())
        assert (await action.apply(target, change, acting())).data["started"] == ["api"]
        assert project.inspect("db")["State"]["StartedAt"] == life
        assert project.states()["indexer_1"] == "created"
        await target.close()


async def test_a_stage_that_does_not_come_up_ends_it_half_way() -> None:
    """The store never gets healthy: nothing that depends on it is started."""
    with engine().project(SERVICES) as project:
        project.create("db", start=False)
        project.create("api", start=False)
        order = {**ORDER, "startup": [{**stage, "within": "1s"} for stage in ORDER["startup"]]}
        target = project.target(**order)
        with pytest.raises(Unfinished, match="stores waited 1 s in vain: db is running"):
            await ACTION.apply(target, await ACTION.diff(target, acting()), acting())
        assert project.states()["api_1"] == "created"
        await target.close()
