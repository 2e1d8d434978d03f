"""The composition root: what starts, what is refused, what a reload swaps, and what becomes of what it replaced."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from remediator.app import Application, Options, default_rules_path, load
from remediator.catalogue import Catalogue
from remediator.errors import InputError, StoreError
from remediator.rule import Mode
from remediator.run import State
from tests.crash.scene import body, firing


def rules(*names: str, **more: Any) -> str:
    """A rule file with these rules; each posts to /NAME."""
    found = [
        {
            "name": name, "mode": "auto", "owner": "us", "when": {"alert": name},
            "steps": [{"uses": "http.post", "target": "app", "with": {"path": f"/{name}"}, "timeout": "30s"}],
            "verify": {"until": "alert.resolved", "within": "1m"}, **more,
        }
        for name in names
    ]  # fmt: skip
    return json.dumps({"rules": found})


class Files:
    """The files of a service in a folder."""

    def __init__(self, directory: Path, url: str = "http://127.0.0.1:9") -> None:
        self.directory = directory
        self.url = url
        self.settings()
        self.rules("one")

    def settings(self, **more: Any) -> None:
        """Write the settings."""
        permit = {"actions": ["http.post"], "paths": ["*"]}
        written = {
            "web": {"listen_address": "127.0.0.1:0"},
            "storage": {"url": f"sqlite:///{str(self.directory).lstrip('/')}/remediator.db"},
            "worker": {"poll": "100ms", "grace": "5s"},
            "targets": {"app": {"kind": "http", "base_url": self.url, "permit": permit}},
            **more,
        }
        (self.directory / "remediator.yaml").write_text(json.dumps(written))

    def rules(self, *names: str, **more: Any) -> None:
        """Write the rules."""
        (self.directory / "rules.yaml").write_text(rules(*names, **more))

    def options(self, **more: Any) -> Options:
        """The flags that name them."""
        paths = (str(self.directory / "rules.yaml"),)
        return Options(config_file=str(self.directory / "remediator.yaml"), rules_path=paths, **more)


@asynccontextmanager
async def running(files: Files, **more: Any) -> AsyncIterator[Application]:
    """A started application, stopped at the end."""
    application = Application(files.options(**more))
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


@asynccontextmanager
async def slow_target(seconds: float) -> AsyncIterator[tuple[str, list[str]]]:
    """A service that takes its time, and the paths that it was asked for and has answered."""
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(seconds)
        seen.append(request.path)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/{name}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def fire(application: Application, name: str) -> tuple[str, ...]:
    """Deliver one alert; the runs it opened."""
    delivery = json.dumps(body(firing(name, application.clock.now()))).encode()
    return (await application.intake.accept(delivery, "test")).runs


async def end(application: Application, run_id: str) -> State:
    """The state of a run once it has acted or ended."""
    async with asyncio.timeout(10):
        while True:
            run = await application.store.run(run_id)
            if run.state not in (State.QUEUED, State.RUNNING, State.HELD):
                return run.state
            await asyncio.sleep(0.05)


def test_everything_is_read_together(tmp_path: Path) -> None:
    """Settings and rules are one set: the refs, the plans and the world all come from it."""
    files = Files(tmp_path)
    files.rules("one", "two")
    loaded = load(files.options(mode_max="approve"), Catalogue())
    assert sorted(loaded.refs) == ["one", "two"]
    assert loaded.refs["one"].mode == "approve"
    assert loaded.world.mode_max is Mode.APPROVE
    assert [lock.target for lock in loaded.refs["one"].locks] == ["app"]


def test_rules_lie_beside_the_settings_by_default(tmp_path: Path) -> None:
    """Without --rules.path it is the folder rules/ beside the settings, if there is one."""
    settings = str(tmp_path / "remediator.yaml")
    assert default_rules_path(settings) == ()
    (tmp_path / "rules").mkdir()
    assert default_rules_path(settings) == (str(tmp_path / "rules"),)


async def test_a_wrong_rule_keeps_the_service_from_starting_and_says_where(tmp_path: Path) -> None:
    """The message points at file, line and column and names what was meant."""
    files = Files(tmp_path)
    files.rules("one", guards=[{"cooldwn": "10m"}])
    with pytest.raises(InputError, match=r'rules\.yaml:1:\d+: error: no guard is named "cooldwn"[\s\S]*cooldown'):
        Application(files.options())


async def test_an_address_that_is_taken_is_said_without_a_traceback(tmp_path: Path) -> None:
    """Somebody else listens there: the error names the address."""
    files = Files(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        application = Application(files.options(listen_address=address))
        with pytest.raises(InputError, match=rf"cannot listen on {address}: .*in use"):
            await application.start()
        await application.stop()


async def test_a_second_service_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """One file, one process: the second one does not start, and the first goes on."""
    files = Files(tmp_path)
    async with running(files) as first:
        second = Application(files.options())
        with pytest.raises(StoreError):
            await second.start()
        assert first.ready()[0]


async def test_a_reload_swaps_the_whole_set_and_says_what_changed(tmp_path: Path) -> None:
    """Added, removed and edited rules are recorded; the next delivery is matched by the new ones."""
    files = Files(tmp_path)
    files.rules("one", "two")
    async with running(files, mode_max="observe") as application:
        files.rules("two", "three", description="edited")
        await application.reload("user:ann")
        (record,) = await application.store.audit(event="rules.loaded")
        detail = json.loads(record.body)["detail"]
        assert (detail["added"], detail["removed"], detail["edited"]) == (["three"], ["one"], ["two"])
        assert await fire(application, "one") == ()
        (run_id,) = await fire(application, "three")
        assert await end(application, run_id) is State.OBSERVED


async def test_a_bad_reload_keeps_the_old_set(tmp_path: Path) -> None:
    """One mistake in one file: nothing of the new set is used, and that is recorded and counted."""
    files = Files(tmp_path)
    async with running(files) as application:
        before = application.rulebook
        files.rules("one", guards=[{"cooldwn": "10m"}])
        with pytest.raises(InputError):
            await application.reload("user:ann")
        assert application.rulebook is before
        assert len(await application.store.audit(event="rules.rejected")) == 1
        assert "remediator_config_last_reload_successful 0.0" in application.metrics.render().decode()


async def test_a_reload_does_not_cut_off_an_effect_under_way(tmp_path: Path) -> None:
    """Old targets keep their connections until nobody acts on them any more, and are closed then."""
    async with slow_target(1.0) as (url, seen):
        files = Files(tmp_path, url)
        async with running(files) as application:
            (run_id,) = await fire(application, "one")
            await asyncio.sleep(0.3)
            files.settings(worker={"poll": "200ms", "grace": "5s"})
            await application.reload("user:ann")
            assert await end(application, run_id) is State.VERIFYING
            assert seen == ["/one"]


async def test_a_stop_answers_deliveries_until_it_drains_and_finishes_what_acts(tmp_path: Path) -> None:
    """Not ready from the first moment, 200 still for who delivers, and the effect under way is recorded."""
    async with slow_target(1.5) as (target, seen):
        files = Files(tmp_path, target)
        application = Application(files.options())
        await application.start()
        url = f"http://{application.address}"
        async with aiohttp.ClientSession() as session:
            alert = body(firing("one", application.clock.now()))
            async with session.post(f"{url}/api/v1/alertmanager", json=alert) as answer:
                (run_id,) = (await answer.json())["runs"]
            await asyncio.sleep(0.3)
            stopping = asyncio.create_task(application.stop())
            await asyncio.sleep(0.3)
            async with session.get(f"{url}/-/ready") as answer:
                assert answer.status == 503
            async with session.get(f"{url}/-/healthy") as answer:
                assert answer.status == 200
            async with session.post(f"{url}/api/v1/alertmanager", json=alert) as answer:
                assert answer.status == 200
        await stopping
        assert seen == ["/one"]
        again = Application(files.options(mode_max="observe"))
        await again.start()
        assert (await again.store.run(run_id)).state is State.VERIFYING
        events = [record.event for record in await again.store.audit(limit=1000)]
        assert events.count("service.started") == 2
        assert events.count("service.stopped") == 1
        await again.stop()
