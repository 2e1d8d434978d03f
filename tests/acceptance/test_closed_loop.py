"""The closed loop with the real programs: a remedy that does not help is undone, the next one helps, and goes back."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from aiohttp import web

from tests import servers
from tests.acceptance.test_straight_line import TOO_LONG, Stage, ended
from tests.acceptance.test_straight_line import stage as straight

RULES = """
rules:
  - name: drain-queue
    description: Try the cache, then more workers for a while.
    owner: team-minting
    mode: auto
    when: {alert: QueueTooLong}
    probes: [{id: queue, uses: http.get, target: minting, with: {path: /queue}}]
    remedies:
      - name: cache
        steps:
          - uses: http.post
            target: minting
            with:
              path: /admin/cache/on
              check: {path: /state, json_path: cache, equals: true}
              undo: {path: /admin/cache/off}
        verify: {until: alert.resolved, within: 3s, every: 500ms}
      - name: workers
        if: probes.queue.json.length > 100
        steps:
          - uses: http.post
            target: minting
            with:
              path: /admin/workers/more
              check: {path: /state, json_path: workers, equals: 2}
              undo: {path: /admin/workers/less}
            lease: {settle: 3s, at_most: 1h}
        verify: {until: alert.resolved, within: 1m, every: 500ms}
"""


class Levers:
    """What the minting service lets others change, and every change in order."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.state: dict[str, bool | int] = {"cache": False, "workers": 1}
        self.story: list[str] = []

    async def look(self, request: web.Request) -> web.Response:
        """GET /state."""
        return web.json_response(self.state)

    async def pull(self, request: web.Request) -> web.Response:
        """POST /admin/WHAT/HOW: only more workers shorten the queue."""
        what, how = request.match_info["what"], request.match_info["how"]
        self.story.append(f"{what} {how}")
        self.state[what] = {"on": True, "off": False, "more": 2, "less": 1}[how]
        if how == "more":
            await self.stage.minting.grow(3)
        return web.json_response(self.state)


async def test_the_second_remedy_helps_and_goes_back_when_the_alert_stayed_away(tmp_path: Path) -> None:
    """Metric → alert → cache, in vain → undone → workers → resolved → succeeded → and after settling: as it was."""
    async with straight(tmp_path) as it, servers.pushgateway() as gateway:
        levers = Levers(it)
        app = web.Application()
        app.router.add_get("/queue", it.minting.look)
        app.router.add_get("/state", levers.look)
        app.router.add_post("/admin/{what}/{how}", levers.pull)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        it.minting.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        it.minting.gateway = gateway.url
        await it.minting.grow(5)
        try:
            async with (
                it.serve(_configured(it)),
                servers.alertmanager(it.alertmanager()) as alertmanager,
                servers.prometheus(
                    targets=[gateway.url], alertmanagers=[alertmanager.url], rules={"minting.rules.yml": TOO_LONG}
                ),
            ):
                await it.minting.grow(4321)
                (run,) = await it.until(ended, seconds=60)
                assert (run["state"], run["reason"]) == ("succeeded", "verified")
                assert levers.story == ["cache on", "cache off", "workers more"]
                assert levers.state == {"cache": False, "workers": 2}, "still in force"
                await _went_back(levers)
                assert len(await it.runs()) == 1
        finally:
            await runner.cleanup()
        told = it.verify()
        assert told["ok"] is True


def _configured(it: Stage) -> Path:
    path = it.configure()
    (it.directory / "rules.yaml").write_text(RULES)
    settings = json.loads(path.read_text())
    settings["targets"]["minting"]["permit"]["paths"] = ["/queue", "/state", "/admin/*"]
    path.write_text(json.dumps(settings))
    return path


async def _went_back(levers: Levers) -> None:
    deadline = time.monotonic() + 30
    while levers.state["workers"] != 1:
        assert time.monotonic() < deadline, "the lease was over, and nothing went back"
        await asyncio.sleep(0.1)
    assert levers.story[-1] == "workers less"


