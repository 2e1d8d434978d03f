"""A real service process on a real file, a real target that counts, and people and Alertmanagers who do not give up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from remediator.action import Effect
from remediator.arrival import Receipt
from remediator.clock import SystemClock, format_instant
from remediator.ids import SystemIds
from remediator.run import LIVE, State
from remediator.stores.sqlite import SqliteStore
from tests import invariants
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.servers import Server, free_port, start_remediator

PATHS: Mapping[str, Effect] = {
    "/once": Effect.ONCE,
    "/idempotent": Effect.IDEMPOTENT,
    "/keyed": Effect.KEYED,
    "/approved": Effect.KEYED,
    "/slow": Effect.KEYED,
    "/limited": Effect.ONCE,
    "/alone": Effect.KEYED,
    "/lever": Effect.PROBE,
    "/lent": Effect.PROBE,
}
"""Where the rules post to, and what class the rule says it is."""


def rule(name: str, mode: str, steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A rule for the alert of the same name."""
    return {"name": name, "mode": mode, "when": {"alert": name}, "steps": steps, **more}


def post(path: str, **parameters: Any) -> dict[str, Any]:
    """A step that posts to the target."""
    return {"id": path.strip("/"), "uses": "http.post", "target": "app", "with": {"path": path, **parameters},
            "retry": {"attempts": 5, "backoff": "100ms"}, "timeout": "10s"}  # fmt: skip


VERIFY = {"until": "alert.resolved", "within": "2m", "every": "200ms"}
RULES = [
    rule("once", "auto", [post("/once")], verify=VERIFY),
    rule(
        "idempotent", "auto", [post("/idempotent", idempotent=True)], verify=VERIFY,
        probes=[{"id": "state", "uses": "http.get", "target": "app", "with": {"path": "/state"}}],
    ),
    rule("keyed", "auto", [post("/keyed", keyed=True), post("/slow", keyed=True)], verify=VERIFY),
    rule("approved", "approve", [post("/approved", keyed=True)], verify=VERIFY),
    rule(
        "scaled", "auto",
        [{"uses": "kubernetes.scale", "target": "cluster",
          "with": {"namespace": "production", "deployment": "minting-worker", "at_least": 5, "max": 10}}],
        verify=VERIFY,
    ),
    rule("limited", "auto", [post("/limited")], guards=[{"rate_limit": {"runs": 5, "per": "1h"}}], max_age="2h"),
]  # fmt: skip
NAMES = ("once", "idempotent", "keyed", "approved")
"""The alerts of a usual round; each has a rule of the same name."""


class Outside:
    """The target: counts every request that it carried out, and can be told to be slow or to pull the plug."""

    def __init__(self) -> None:
        self.effects: list[invariants.Effect] = []
        self.keys: Counter[str] = Counter()
        self.by_run: dict[str, Counter[str]] = defaultdict(Counter)
        self.levers: dict[str, Any] = {"/lever": 0, "/lent": 0}
        """What each of these paths was set to, which a GET shows."""
        self.delay = 0.0
        """Seconds that every request takes; ``slow`` is for /slow, ``look`` for what the probe reads."""
        self.slow = 0.0
        self.look = 0.0
        self.on_request: Callable[[str], None] = lambda path: None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """One POST. A keyed one whose key was seen is dropped, as such services do."""
        begun, key = time.time(), request.headers["Idempotency-Key"]
        run_id, _, step = key.rpartition("-")
        kind = PATHS[request.path]
        content = await request.read()
        await asyncio.sleep(self.slow if request.path == "/slow" else self.delay)
        if request.path in self.levers:
            self.levers[request.path] = json.loads(content)
        first = not self.keys[key]
        self.keys[key] += 1
        if first or kind is not Effect.KEYED:
            self.by_run[run_id][request.path] += 1
            ended = time.time()
            self.effects.append(
                invariants.Effect(
                    run=run_id, step=step, attempt=0, target="app", subject="", kind=kind, begun=begun, ended=ended
                )
            )
        self.on_request(request.path)
        return web.json_response({"count": self.keys[key]})

    async def lever(self, request: web.Request) -> web.Response:
        """What a lever was set to."""
        return web.json_response({"n": self.levers[request.path]})

    async def state(self, request: web.Request) -> web.Response:
        """What the probe reads."""
        await asyncio.sleep(self.look)
        return web.json_response({"ok": True})


class Scene:
    """The service, whatever process it is just now, and everybody around it."""

    def __init__(self, directory: Path, outside: Outside, api: ApiServer, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.outside = outside
        self.api = api
        self.session = session
        self.port = free_port()
        self.server: Server | None = None
        self.deaths: list[int] = []
        """Exit statuses of processes that ended before ``stop``."""
        self.crashes: list[str] = []
        """Where the processes that follow a dead one shall die; none: they live."""
        self.ending = False
        """Whether somebody sent SIGTERM, so that ending in peace is right."""
        self.receipts: list[Receipt] = []
        self.statuses: Counter[int] = Counter()
        self.refused = 0
        self._starting = asyncio.Lock()

    # the service -----------------------------------------------------------------------------------------------------

    def configure(self, rules: list[dict[str, Any]] | None = None, **settings: Any) -> None:
        """Write rules and settings."""
        permit = {"actions": ["http.post", "http.get"], "paths": ["*"]}
        cluster = {"namespaces": ["production"], "deployments": ["minting-worker"], "actions": ["kubernetes.scale"]}
        (self.directory / "rules.yaml").write_text(json.dumps({"rules": rules or RULES}))
        kubeconfig = self.api.kubeconfig(self.directory)
        written = {
            "storage": {"url": f"sqlite:///{self.directory.as_posix().lstrip('/')}/remediator.db"},
            "worker": {"lease": "5s", "poll": "100ms", "grace": "10s", **settings.pop("worker", {})},
            "targets": {
                "app": {"kind": "http", "base_url": self.outside.url, "max_runs": 100, "permit": permit},
                "cluster": {"kind": "kubernetes", "kubeconfig": kubeconfig, "permit": cluster},
            },
            **settings,
        }
        (self.directory / "remediator.yaml").write_text(json.dumps(written))

    async def start(self, crash: str = "", *, ready: bool = True) -> None:
        """Start the service, on the port it always has; ``crash`` is where it shall die."""
        env = {"REMEDIATOR_CRASHPOINT": crash}
        self.server = await asyncio.to_thread(
            start_remediator, self.directory / "remediator.yaml", f"--rules.path={self.directory}/rules.yaml",
            "--web.enable-lifecycle", port=self.port, env=env, ready=False,
        )  # fmt: skip
        if ready:
            await self.answering()

    async def answering(self) -> None:
        """Wait until it answers, or has died."""
        assert self.server is not None
        deadline = time.monotonic() + 20
        while self.server.running:
            assert time.monotonic() < deadline, self.server.log_tail()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self.session.get(f"{self.url}/-/ready", timeout=aiohttp.ClientTimeout(total=1)) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.02)

    async def alive(self) -> None:
        """If the service has died, note how and start it again, with the next crash point if there is another one."""
        async with self._starting:
            if self.server is not None and not self.server.running:
                self.deaths.append(self.server.wait())
                told = f"ended with {self.deaths[-1]}\n{self.server.log_tail()}"
                assert self.deaths[-1] == -signal.SIGKILL or self.ending, told
                self._keep_log(self.server)
                await self.start(self.crashes.pop(0) if self.crashes else "")

    def _keep_log(self, server: Server) -> None:
        with contextlib.suppress(FileNotFoundError), (self.directory / "service.log").open("ab") as kept:
            kept.write(server.log.read_bytes())
        shutil.rmtree(server.directory, ignore_errors=True)

    async def stop(self) -> int:
        """SIGTERM, as an orchestrator does; the exit status."""
        if self.server is None:
            return 0
        server, self.server = self.server, None
        server.kill(signal.SIGTERM)
        server.kill(signal.SIGCONT)
        status = await asyncio.to_thread(server.wait, 40.0)
        self._keep_log(server)
        return status

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the service's process, and to no other."""
        if self.server is not None:
            self.server.kill(sig)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://127.0.0.1:{self.port}"

    # who talks to it -------------------------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, body: Any = None, seconds: float = 10.0) -> tuple[int, Any]:
        """Status and JSON of an answer; (0, None) when there was none."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self.session.request(method, self.url + path, json=body, timeout=timeout) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0, None

    async def deliver(self, *alerts: Mapping[str, Any], tries: int = 400) -> Receipt:
        """Post alerts until the service says 200, as Alertmanager does."""
        for _ in range(tries):
            status, receipt = await self.ask("POST", "/api/v1/alertmanager", body(*alerts))
            self.statuses[status] += 1
            if status == 200:
                kept = Receipt(receipt.get("delivery", ""), tuple(receipt["runs"]), {}, receipt["accepted"])
                self.receipts.append(kept)
                return kept
            self.refused += 1
            assert status in (0, 503), f"{status}: {receipt}"
            await self.alive()
            await asyncio.sleep(0.05)
        raise AssertionError("the service did not accept the delivery")

    async def runs(self) -> list[dict[str, Any]]:
        """All runs that there are."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            status, page = await self.ask("GET", f"/api/v1/runs?limit=200{cursor}")
            if status != 200:
                await self.alive()
                await asyncio.sleep(0.05)
                found, cursor = [], ""
                continue
            found += page["items"]
            if not page["next"]:
                return found
            cursor = f"&cursor={page['next']}"

    async def approve_all(self) -> None:
        """Say yes to every open question."""
        for run in await self.runs():
            if run["state"] == "held" and run["reason"] == "approval":
                status, whole = await self.ask("GET", f"/api/v1/runs/{run['id']}")
                if status == 200 and whole.get("approval"):
                    digest = whole["approval"]["digest"]
                    await self.ask("POST", f"/api/v1/runs/{run['id']}/approve", {"digest": digest, "comment": "yes"})
                await self.alive()

    async def until(self, which: Callable[[dict[str, Any]], bool], *, count: int, seconds: float = 60.0) -> None:
        """Wait until ``count`` runs are as they should be, approving and restarting on the way."""
        deadline = time.monotonic() + seconds
        while True:
            await self.approve_all()
            runs = await self.runs()
            if sum(map(which, runs)) >= count:
                return
            assert time.monotonic() < deadline, [(r["rule"], r["state"], r["reason"], r["message"]) for r in runs]
            await asyncio.sleep(0.05)

    # the end ---------------------------------------------------------------------------------------------------------

    async def judge(self, *, ended: bool = True, max_runs: int = 100) -> invariants.History:
        """With the service stopped: open its file and hold everything it says against what truly happened."""
        clock = SystemClock()
        store = SqliteStore(str(self.directory / "remediator.db"), clock=clock, ids=SystemIds(clock))
        await store.open()
        try:
            history = await invariants.check(store, self.outside.effects, ended=ended, max_runs=max_runs)
        finally:
            await store.close()
        for receipt in self.receipts:
            for run_id in receipt.runs:
                assert run_id in history.runs, f"run {run_id} was acknowledged and is lost"
        for run in history.runs.values():
            done = self.outside.by_run[run.id]
            for path, times in done.items():
                if PATHS[path] is not Effect.IDEMPOTENT and path not in self.outside.levers:
                    assert times == 1, f"{path} took place {times} times for run {run.id}"
            if run.state is State.SUCCEEDED and run.rule in ("once", "idempotent", "keyed", "approved", "limited"):
                assert done["/" + run.rule] >= 1, f"{run.rule} succeeded without its effect"
        return history


def body(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook body."""
    return {"version": "4", "groupKey": "g", "truncatedAlerts": 0, "status": "firing", "receiver": "remediator",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "",
            "alerts": list(alerts)}  # fmt: skip


def firing(name: str, at: float, **labels: str) -> dict[str, Any]:
    """An alert that fires since ``at``."""
    return {"status": "firing", "labels": {"alertname": name, **labels}, "annotations": {},
            "startsAt": format_instant(at), "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
            "fingerprint": "0" * 16}  # fmt: skip


def resolved(name: str, at: float, **labels: str) -> dict[str, Any]:
    """The end of an alert that fired since ``at``."""
    return {**firing(name, at, **labels), "status": "resolved", "endsAt": format_instant(time.time())}


@asynccontextmanager
async def scene(directory: Path, **settings: Any) -> AsyncIterator[Scene]:
    """Everything but the service itself, which the test starts; at the end no process is left."""
    outside = Outside()
    app = web.Application()
    for path in PATHS:
        app.router.add_post(path, outside.handle)
    app.router.add_get("/state", outside.state)
    for path in outside.levers:
        app.router.add_get(path, outside.lever)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    outside.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    timeout = aiohttp.ClientTimeout(total=10)
    async with api_server() as api, aiohttp.ClientSession(timeout=timeout) as session:
        api.add("deployments", "minting-worker", 3)
        made = Scene(directory, outside, api, session)
        made.configure(**settings)
        try:
            yield made
        finally:
            made.kill()
            if made.server is not None:
                await asyncio.to_thread(made.server.stop)
            await runner.cleanup()


def settled(run: Mapping[str, Any]) -> bool:
    """Nothing is left to do for this run before its alert resolves."""
    return run["state"] == "verifying" or State(run["state"]) not in LIVE


def over(run: Mapping[str, Any]) -> bool:
    """The run has ended."""
    return State(run["state"]) not in LIVE


__all__ = ["NAMES", "Outside", "Scene", "firing", "json", "os", "over", "random", "resolved", "scene", "settled"]
