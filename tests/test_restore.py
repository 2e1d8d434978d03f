"""Proves with the real service that an old database which is put back, or a cut audit, stops it from acting alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.servers import serve
from tests.web.site import delivery

RULES = """
rules:
  - name: grow
    mode: auto
    when: {alert: QueueHigh}
    steps: [{uses: http.post, target: api, with: {path: /grow}}]
"""


class Place:
    """A folder with settings and rules, and the system that the rule acts on, which counts what is done to it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.done = 0
        self.database = folder / "store.db"
        (folder / "rules").mkdir()
        (folder / "rules" / "grow.yaml").write_text(RULES)
        self.settings = folder / "remediator.yaml"
        self.settings.write_text(
            f"storage: {{url: 'sqlite://{self.database}'}}\n"
            f"targets: {{api: {{kind: http, base_url: 'http://127.0.0.1:{port}',"
            " permit: {actions: [http.post], paths: [/grow]}}}\n"
        )

    def old_copy(self) -> Path:
        """A copy of the database as an operator makes it of a stopped service."""
        return Path(shutil.copy(self.database, self.folder / "backup.db"))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A folder and a target."""
    made: list[Place] = []

    async def grow(_request: web.Request) -> web.Response:
        made[0].done += 1
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/grow", grow)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    made.append(Place(tmp_path, runner.addresses[0][1]))
    yield made[0]
    await runner.cleanup()


class Service:
    """A running service, asked over HTTP."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            return await answer.json(content_type=None)

    async def post(self, path: str, body: object) -> int:
        async with self.session.post(self.url + path, json=body) as answer:
            return answer.status

    async def fires(self, queue: str) -> dict[str, Any]:
        """Deliver an alert; its run once it waits for somebody or is over."""
        assert await self.post("/api/v1/alertmanager", delivery(("QueueHigh", {"queue": queue}))) == 200
        while (run := await self.get("/api/v1/runs/@latest"))["state"] in ("queued", "running", "verifying"):
            pass
        assert isinstance(run, dict)
        return run

    async def events(self, event: str) -> list[dict[str, Any]]:
        """The newest records of an event."""
        found: list[dict[str, Any]] = (await self.get(f"/api/v1/audit?event={event}"))["items"]
        return found


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[Service]:
    """The service in this folder until the block ends."""
    async with serve(place.settings) as server, aiohttp.ClientSession() as session:
        yield Service(server.url, session)


async def _put_back(place: Place) -> None:
    async with running(place) as service:
        await service.fires("one")
    backup = place.old_copy()
    async with running(place) as service:
        await service.fires("two")
    shutil.copy(backup, place.database)


async def _cut(place: Place) -> None:
    async with running(place) as service:
        await service.fires("one")
        await service.fires("two")
    connection = sqlite3.connect(place.database)
    connection.execute("DROP TRIGGER audit_no_delete")
    connection.execute("DELETE FROM audit WHERE sequence > (SELECT max(sequence) - 4 FROM audit)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("lose", [_put_back, _cut])
async def test_lost_history_needs_a_person(place: Place, lose: Callable[[Place], Awaitable[None]]) -> None:
    """After a restore or a cut the service takes deliveries, says what is wrong, and acts only with approval.

    A person who has looked accepts the loss, with a reason that is recorded; from then on, and after a restart, rules
    act by themselves again.
    """
    await lose(place)
    assert place.done == 2
    async with running(place) as service:
        parts = await service.get("/-/ready?verbose")
        assert parts["ready"] is True
        assert parts["audit"].startswith("the audit has ") and "history was lost" in parts["audit"]
        async with service.session.get(service.url + "/metrics") as answer:
            assert "remediator_audit_checkpoint_ok 0.0" in await answer.text()
        assert (await service.get("/api/v1/rules/grow"))["effective_mode"] == "approve"
        run = await service.fires("three")
        assert (run["state"], run["reason"], place.done) == ("held", "approval", 2)
        assert len(await service.events("audit.checkpoint_mismatch")) == 1
        assert await service.post("/-/reload", {}) == 403, "a reload is no way around it, and is off here"
        assert await service.post("/api/v1/audit/accept-loss", {"reason": "the backup of Monday"}) == 200
        (record,) = await service.events("audit.loss_accepted")
        assert record["detail"]["reason"] == "the backup of Monday"
        assert (await service.get("/-/ready?verbose"))["audit"] == "ok"
        assert (await service.fires("four"))["state"] == "succeeded"
        assert place.done == 3
    async with running(place) as service:
        assert (await service.get("/-/ready?verbose"))["audit"] == "ok"
        assert (await service.get("/api/v1/rules/grow"))["effective_mode"] == "auto"


async def test_an_ordinary_restart_and_a_crash_lose_nothing(place: Place) -> None:
    """A service that was stopped or killed finds its own store as it left it and goes on by itself."""
    async with running(place) as service:
        await service.fires("one")
    async with serve(place.settings) as server, aiohttp.ClientSession() as session:
        await Service(server.url, session).fires("two")
        server.process.kill()
    kept = json.loads((place.folder / "store.db.checkpoint").read_text())
    async with running(place) as service:
        assert (await service.get("/-/ready?verbose"))["audit"] == "ok"
        assert (await service.fires("three"))["state"] == "succeeded"
    assert json.loads((place.folder / "store.db.checkpoint").read_text())["records"] > kept["records"]
