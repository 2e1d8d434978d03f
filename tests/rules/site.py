"""A running Remediator with the rules as shipped and the example's settings, whose addresses are those of the test."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from remediator.app import Application, Options
from remediator.audit import verify
from remediator.demo.process import Child
from tests import servers
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.integrations.slack.workspace import Workspace, secrets_in, workspace

RULES = servers.ROOT / "rules"
EXAMPLE = servers.ROOT / "docs/examples/remediator.yaml"
PAYLOADS = servers.ROOT / "tests/payloads"
TOKEN = "minting-admin-token-of-this-test"
SECONDS = 40
"""How long a test waits for a state; the machine may be busy."""


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], path: str = "/{tail:.*}") -> (
    AsyncIterator[str]
):
    """A small service that gives this answer to whatever asks for ``path``; its address."""
    app = web.Application()
    app.router.add_route("*", path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port := servers.free_port()).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


class Api:
    """Remediator's HTTP API, as Alertmanager and people use it."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.session = session

    async def deliver(self, body: Mapping[str, Any]) -> list[str]:
        """Deliver a body as Alertmanager does; the ids of the runs it opened."""
        async with self.session.post(f"http://{self.address}/api/v1/alertmanager", json=body) as answer:
            assert answer.status == 200, await answer.text()
            runs: list[str] = (await answer.json())["runs"]
            return runs

    async def post(self, payload: str, **labels: str) -> list[str]:
        """Deliver a captured body, with labels replaced; the ids of the runs it opened."""
        body = json.loads((PAYLOADS / payload).read_text())
        for alert in body["alerts"]:
            alert["labels"].update(labels)
        return await self.deliver(body)

    async def alert(self, name: str, **labels: str) -> str:
        """An alert fires; the id of its one run."""
        (run_id,) = await self.post("am0.33.1__firing_HighQueueDepth.json", alertname=name, **labels)
        return run_id

    async def run(self, run_id: str) -> dict[str, Any]:
        """The run as the API shows it."""
        async with self.session.get(f"http://{self.address}/api/v1/runs/{run_id}") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def until(self, run_id: str, *states: str) -> dict[str, Any]:
        """The run as the API shows it, once it is in one of ``states``."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(SECONDS):
                while (found := await self.run(run_id)).get("state") not in states:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(found) from None
        return found

    async def asked(self, run_id: str, step: str) -> dict[str, Any]:
        """The run, once people are asked about ``step``."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    found = await self.run(run_id)
                    question = found.get("approval") or {}
                    ids = [change["id"] for change in question.get("changes", ())]
                    if found["state"] == "held" and question.get("state") == "pending" and step in ids:
                        return found
                    assert found["state"] in ("queued", "running", "held", "verifying"), found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(found) from None

    async def approve(self, run: Mapping[str, Any]) -> None:
        """A person says yes to exactly what is shown."""
        url = f"http://{self.address}/api/v1/runs/{run['id']}/approve"
        async with self.session.post(url, json={"digest": run["approval"]["digest"]}) as answer:
            assert answer.status == 200, await answer.text()


class Minting:
    """The demonstration's minting service as its administrator sees it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST a body."""
        method = "GET" if body is None else "POST"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._session.request(method, self.url + path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


class Site(Api):
    """A running Remediator with the shipped rules, and the systems it may touch."""

    application: Application
    cluster: ApiServer
    slack: Workspace
    settings: dict[str, Any]
    minting: Minting
    child: Child


def example(directory: Path, cluster: ApiServer, slack: Workspace) -> dict[str, Any]:
    """The example's settings on this machine; every address that a test does not replace is of no server at all."""
    settings: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    settings["web"] = {"listen_address": "127.0.0.1:0"}
    settings["storage"] = {"url": f"sqlite://{directory}/remediator.db"}
    settings["intake"].pop("tokens_file")
    settings.pop("users")
    settings.pop("approvals")
    targets = settings["targets"]
    for name in ("pagerduty", "mail", "status"):
        targets.pop(name)
    call = {"uses": "slack.post", "target": "slack", "with": {"channel": "#on-call", "title": "${{ handover.title }}"}}
    settings["escalations"] = {name: [call] for name in settings["escalations"]}
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    for target in targets.values():
        if "base_url" in target:
            target["base_url"] = nobody
    for number, endpoint in enumerate(targets["solana-rpc"]["endpoints"]):
        endpoint["url"] = f"{nobody}/{number}"
    targets["treasury"]["rpc_urls"] = [nobody, f"http://127.0.0.1:{servers.free_port()}"]
    targets["prod"] |= {"kubeconfig": cluster.kubeconfig(directory)}
    targets["slack"] |= {"base_url": slack.url, **secrets_in(directory)}
    for name in ("app_token_file", "signing_secret_file"):
        targets["slack"].pop(name)
    return settings


async def minting_service(
    stack: AsyncExitStack, directory: Path, session: aiohttp.ClientSession
) -> tuple[Minting, Child]:
    """The demonstration's minting service as a process of its own."""
    (directory / "token").write_text(TOKEN)
    port = servers.free_port()
    argv = [sys.executable, "-m", "remediator.demo.minting", "--listen", f"127.0.0.1:{port}", "--allow-faults"]
    argv += ["--data-dir", str(directory / "data"), "--token-file", str(directory / "token")]
    argv += ["--stale-after", "0.2", "--seconds-per-mint", "0.5"]
    child = await stack.enter_async_context(Child("minting", argv, log=directory / "log"))
    url = f"http://127.0.0.1:{port}"
    await child.ready(url + "/health")
    return Minting(url, session), child


@asynccontextmanager
async def site(directory: Path, rules: Path = RULES, **targets: Mapping[str, Any]) -> AsyncIterator[Site]:
    """The shipped rules, or some of them, with what ``targets`` replaces in the example's (None: leaves out)."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(api_server())
        for name, replicas in {"minting-worker": 2, "minting-service": 3, "api-gateway": 2, "event-service": 2,
                               "ticket-service": 2, "gate-service": 1}.items():  # fmt: skip
            cluster.add("deployments", name, replicas)
        slack = await stack.enter_async_context(workspace())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        minting, child = await minting_service(stack, directory, session)
        settings = example(directory, cluster, slack)
        settings["targets"]["minting-api"] |= {
            "base_url": minting.url,
            "bearer_token_file": str(directory / "token"),
            "timeout": "2s",
        }
        for name, replaced in targets.items():
            target = settings["targets"][name.replace("_", "-")]
            target |= replaced
            for key in [key for key, value in replaced.items() if value is None]:
                del target[key]
        (directory / "remediator.yaml").write_text(json.dumps(settings, indent=1))
        options = Options(config_file=str(directory / "remediator.yaml"), rules_path=(str(rules),))
        application = Application(options)
        await application.start()
        stack.push_async_callback(application.stop)
        here = Site(application.address, session)
        here.application, here.cluster, here.slack, here.settings = application, cluster, slack, settings
        here.minting, here.child = minting, child
        yield here
        assert verify([record async for record in application.store.audit_stream()]).ok
