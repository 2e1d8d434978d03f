"""The whole line with the real programs: Pushgateway, Prometheus, Alertmanager, our service, and a target that acts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests import servers
from tests.servers import ROOT, Server, free_port

TOKEN = "alertmanager-5d1c8a0e9b7f4c3d2e1f0a9b8c7d6e5f"
TOO_LONG = """
groups:
  - name: minting
    rules:
      - alert: QueueTooLong
        expr: queue_length > 100
        labels: {severity: warning}
        annotations: {summary: "{{ $value }} jobs wait"}
"""
RULES = """
rules:
  - name: drain-queue
    description: Let the workers drain the queue.
    owner: team-minting
    mode: %s
    when: {alert: QueueTooLong, matchers: ['severity=~"warning|critical"']}
    guards: [{cooldown: {for: 1h, scope: incident}}]
    probes: [{id: queue, uses: http.get, target: minting, with: {path: /queue}}]
    if: probes.queue.json.length > 100
    steps:
      - {uses: http.post, target: minting, with: {path: /admin/queue/drain}}
    verify: {until: alert.resolved && probes.queue.json.length < 100, within: 1m, every: 200ms}
"""


class Minting:
    """A small service with a queue, whose length it reports to a Pushgateway when there is one."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.length = 0
        self.gateway = ""
        self.keys: Counter[str] = Counter()
        self.url = ""

    async def grow(self, length: int) -> None:
        """The queue has another length now, and says so."""
        self.length = length
        if self.gateway:
            data = f"queue_length {length}\n".encode()
            async with self.session.put(f"{self.gateway}/metrics/job/minting", data=data) as answer:
                assert answer.status == 200

    async def look(self, request: web.Request) -> web.Response:
        """GET /queue."""
        return web.json_response({"length": self.length})

    async def drain(self, request: web.Request) -> web.Response:
        """POST /admin/queue/drain."""
        self.keys[request.headers["Idempotency-Key"]] += 1
        await self.grow(3)
        return web.json_response({"drained": True})


class Stage:
    """Our service's files and address, and how to ask it."""

    def __init__(self, directory: Path, minting: Minting, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.minting = minting
        self.session = session
        self.port = free_port()

    def configure(self, mode: str = "auto", **intake: Any) -> Path:
        """Write rules, settings and the token; the path of the settings."""
        (self.directory / "rules.yaml").write_text(RULES % mode)
        (self.directory / "token").write_text(TOKEN + "\n")
        permit = {"actions": ["http.post", "http.get"], "paths": ["/queue", "/admin/queue/*"]}
        settings = {
            "storage": {"url": "sqlite:///" + str(self.database).lstrip("/")},
            "intake": {"tokens_file": "token", **intake},
            "targets": {"minting": {"kind": "http", "base_url": self.minting.url, "permit": permit}},
        }
        path = self.directory / "remediator.yaml"
        path.write_text(json.dumps(settings))
        return path

    @property
    def database(self) -> Path:
        """The file of the store."""
        return self.directory / "remediator.db"

    @property
    def url(self) -> str:
        """Where our service listens."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, config: Path) -> Any:
        """Our service as an async context manager."""
        return servers.serve(config, f"--rules.path={self.directory}/rules.yaml", port=self.port)

    def alertmanager(self, interval: str = "1s") -> str:
        """Configuration of an Alertmanager that delivers to our service at once, and again after ``interval``.

        It tries to deliver for as long as ``interval``, and for ten seconds at least.
        """
        return json.dumps(
            {
                "route": {
                    "receiver": "remediator", "group_by": ["..."], "group_wait": "100ms", "group_interval": interval,
                    "repeat_interval": "1h",
                },
                "receivers": [
                    {
                        "name": "remediator",
                        "webhook_configs": [
                            {
                                "url": f"{self.url}/api/v1/alertmanager", "send_resolved": True, "max_alerts": 0,
                                "http_config": {"authorization": {"credentials": TOKEN}},
                            }
                        ],
                    }
                ],
            }
        )  # fmt: skip

    async def get(self, path: str) -> Any:
        """JSON of our API; None while there is no answer."""
        try:
            async with self.session.get(self.url + path) as answer:
                return await answer.json(content_type=None) if answer.status == 200 else None
        except aiohttp.ClientError:
            return None

    async def runs(self) -> list[dict[str, Any]]:
        """The runs there are."""
        return list(((await self.get("/api/v1/runs")) or {"items": []})["items"])

    async def until(self, found: Callable[[list[dict[str, Any]]], bool], seconds: float = 40.0) -> list[dict[str, Any]]:
        """The runs, as soon as they are as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            runs = await self.runs()
            if found(runs):
                return runs
            assert time.monotonic() < deadline, runs
            await asyncio.sleep(0.1)

    def verify(self) -> dict[str, Any]:
        """What ``remediator audit verify`` says about the database, without a service."""
        argv = [sys.executable, "-m", "remediator", "audit", "verify", "-ojson"]
        done = subprocess.run(
            [*argv, f"--storage.url=sqlite:///{self.database}"],
            cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    async def metric(self, name: str) -> float:
        """The sum of one of our metrics over the lines that begin with ``name``."""
        async with self.session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """The minting service, and a place for ours."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        minting = Minting(session)
        app = web.Application()
        app.router.add_get("/queue", minting.look)
        app.router.add_post("/admin/queue/drain", minting.drain)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        minting.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield Stage(directory, minting, session)
        finally:
            await runner.cleanup()


def ended(runs: list[dict[str, Any]]) -> bool:
    """There is one run and it has ended."""
    return len(runs) == 1 and runs[0]["state"] not in ("queued", "held", "running", "verifying")


async def test_a_pushed_metric_is_remedied_and_the_audit_verifies(tmp_path: Path) -> None:
    """Metric → alert → run → action at the target → metric back → resolved → succeeded → audit verified offline."""
    async with stage(tmp_path) as it, servers.pushgateway() as gateway:
        it.minting.gateway = gateway.url
        await it.minting.grow(5)
        async with (
            it.serve(it.configure()),
            servers.alertmanager(it.alertmanager()) as alertmanager,
            servers.prometheus(
                targets=[gateway.url], alertmanagers=[alertmanager.url], rules={"minting.rules.yml": TOO_LONG}
            ),
        ):
            await it.minting.grow(4321)
            (run,) = await it.until(ended)
            assert (run["state"], run["reason"]) == ("succeeded", "verified")
            assert list(it.minting.keys.values()) == [1]
            whole = await it.get(f"/api/v1/runs/{run['id']}")
            assert whole["incident"]["labels"]["severity"] == "warning"
        told = it.verify()
        assert told["ok"] is True
        assert told["records"] > 6


async def post_alert(it: Stage, *alertmanagers: Server) -> None:
    """Tell each Alertmanager that the queue is too long, as Prometheus would."""
    alert = {"labels": {"alertname": "QueueTooLong", "severity": "warning"}, "startsAt": _now(-1), "endsAt": _now(300)}
    for alertmanager in alertmanagers:
        async with it.session.post(f"{alertmanager.url}/api/v2/alerts", json=[alert]) as answer:
            assert answer.status == 200


async def end_alert(it: Stage, *alertmanagers: Server) -> None:
    """Tell each Alertmanager that it is over."""
    alert = {"labels": {"alertname": "QueueTooLong", "severity": "warning"}, "startsAt": _now(-20), "endsAt": _now(0)}
    for alertmanager in alertmanagers:
        async with it.session.post(f"{alertmanager.url}/api/v2/alerts", json=[alert]) as answer:
            assert answer.status == 200


def _now(offset: float) -> str:
    from remediator.clock import format_instant

    return format_instant(time.time() + offset)


async def test_alertmanager_comes_back_after_the_service_was_down(tmp_path: Path) -> None:
    """Delivered to nobody at first: Alertmanager tries again, and the service that starts later gets its run."""
    async with stage(tmp_path) as it, servers.alertmanager(it.alertmanager()) as alertmanager:
        it.minting.length = 500
        await post_alert(it, alertmanager)
        await asyncio.sleep(3)
        async with it.serve(it.configure()):
            await it.until(lambda runs: [run["state"] for run in runs] == ["verifying"])
            await end_alert(it, alertmanager)
            (run,) = await it.until(ended)
            assert run["state"] == "succeeded"
        assert list(it.minting.keys.values()) == [1]
        assert it.verify()["ok"] is True


async def test_alertmanager_comes_back_after_a_503(tmp_path: Path) -> None:
    """One run waits and one may: the second alert gets 503 until the first is out of the way, and is not lost."""
    async with stage(tmp_path) as it, servers.alertmanager(it.alertmanager()) as alertmanager:
        it.minting.length = 500
        async with it.serve(it.configure("approve", backlog=1)):
            await post_alert(it, alertmanager)
            (first,) = await it.until(lambda runs: [run["reason"] for run in runs] == ["approval"])
            other = {"labels": {"alertname": "QueueTooLong", "severity": "critical"}, "startsAt": _now(0)}
            async with it.session.post(f"{alertmanager.url}/api/v2/alerts", json=[other]) as answer:
                assert answer.status == 200
            while not await it.metric('remediator_deliveries_total{code="503"}'):
                await asyncio.sleep(0.1)
            assert len(await it.runs()) == 1
            path = f"{it.url}/api/v1/runs/{first['id']}/cancel"
            async with it.session.post(path, json={"comment": "make room"}) as answer:
                assert answer.status == 200, await answer.text()
            runs = await it.until(lambda runs: len(runs) == 2)
            assert {run["state"] for run in runs} <= {"queued", "running", "held", "cancelled"}
            await asyncio.sleep(2.5)
            assert len(await it.runs()) == 2, "further copies open nothing"


async def test_two_alertmanagers_deliver_and_one_run_is_made(tmp_path: Path) -> None:
    """A highly available pair, both with the same alert and both delivering: one incident, one run, one effect."""
    async with stage(tmp_path) as it:
        it.minting.length = 500
        flags = ("--cluster.peer-timeout=1s", "--cluster.gossip-interval=50ms")
        async with (
            # Both must still be trying when the service is up, however long its start takes on a busy machine.
            servers.alertmanager(it.alertmanager("20s"), cluster=True, flags=flags) as first,
            servers.alertmanager(it.alertmanager("20s"), peers=[first.cluster], flags=flags) as second,
        ):
            await _paired(it, second)
            # Nobody answers while both flush, so neither can tell the other that it has delivered.
            await post_alert(it, first, second)
            await asyncio.sleep(3)
            async with it.serve(it.configure()):
                await it.until(lambda runs: [run["state"] for run in runs] == ["verifying"])
                deadline = time.monotonic() + 30
                while await it.metric('remediator_deliveries_total{code="200"}') < 2:
                    assert time.monotonic() < deadline, "the second Alertmanager never delivered"
                    await asyncio.sleep(0.1)
                assert len(await it.runs()) == 1
                await end_alert(it, first, second)
                (run,) = await it.until(ended)
                assert run["state"] == "succeeded"
        assert list(it.minting.keys.values()) == [1]
        assert it.verify()["ok"] is True


async def _paired(it: Stage, second: Server) -> None:
    deadline = time.monotonic() + 20
    while True:
        async with it.session.get(f"{second.url}/api/v2/status") as answer:
            status = await answer.json()
        if len(status["cluster"]["peers"]) == 2 and status["cluster"]["status"] == "ready":
            return
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.1)
