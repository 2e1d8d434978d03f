"""The rules for the minting service, carried out: loaded as shipped, answered by real services on loopback."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from remediator.app import Application, Options
from remediator.audit import verify
from remediator.catalogue import Catalogue
from remediator.checks import CheckContext
from remediator.demo.process import Child
from remediator.problem import Severity
from remediator.rulebook import load_rulebook
from remediator.settings import load_settings
from tests import servers
from tests.integrations.kubernetes.apiserver import ApiServer, api_server

RULES = servers.ROOT / "rules"
EXAMPLE = servers.ROOT / "docs/examples/remediator.yaml"
PAYLOADS = servers.ROOT / "tests/payloads"
ALERTS = servers.ROOT / "alertmanager/rules/minting-service.yml"
TOKEN = "minting-admin-token-of-this-test"


def test_the_shipped_rules_and_settings_are_accepted_without_a_word() -> None:
    """What we ship passes our own checks with nothing to say but that the example's token files are not there."""
    catalogue = Catalogue()
    settings = load_settings(EXAMPLE, catalogue)
    book = load_rulebook([RULES], catalogue, settings.targets)
    context = CheckContext(services=settings.services, guards=list(settings.guards))

    assert {problem.id for problem in settings.warnings} == {"settings/file"}
    assert [p for p in (*book.warnings, *catalogue.lint(book, context)) if p.severity is not Severity.INFO] == []


def test_every_alert_that_a_rule_answers_exists_and_the_four_of_the_runbook_are_answered() -> None:
    """No rule waits for an alert that nobody sends, and no alert of the runbook is left without a rule."""
    book = load_rulebook([RULES], Catalogue())
    answered = {alert for rule in book.rules for alert in rule.when.alert}
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    defined = {rule["alert"] for group in groups for rule in group["rules"]}

    assert answered <= defined
    assert {"HighQueueDepth", "HighErrorRate", "LowWalletBalance", "HighEventLoopLag"} <= answered


@pytest.mark.parametrize(
    ("payload", "rules"),
    [
        ("am0.33.1__firing_HighQueueDepth.json", ["minting-queue-backlog"]),
        ("am0.33.1__firing_LowWalletBalance.json", ["minting-wallet-low"]),
        ("am0.33.1__firing_HighEventLoopLag.json", ["minting-event-loop-lag"]),
        ("am0.33.1__firing_GroupOfFive.json", []),
    ],
)
def test_bodies_of_a_real_alertmanager_find_their_rule(payload: str, rules: list[str]) -> None:
    """The alerts as a real Alertmanager sends them reach exactly the rule that is meant for them."""
    book = load_rulebook([RULES], Catalogue())
    labels = json.loads((PAYLOADS / payload).read_text())["alerts"][0]["labels"]

    assert [rule.name for rule in book.match(labels)] == rules


@dataclass
class Site:
    """A running Remediator with the shipped rules, and the systems it may touch."""

    application: Application
    cluster: ApiServer
    minting: str
    told: list[Any]
    session: aiohttp.ClientSession

    async def post(self, payload: str, **labels: str) -> list[str]:
        """Deliver a captured body, with labels replaced; the ids of the runs it opened."""
        body = json.loads((PAYLOADS / payload).read_text())
        for alert in body["alerts"]:
            alert["labels"].update(labels)
        url = f"http://{self.application.address}/api/v1/alertmanager"
        async with self.session.post(url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            runs: list[str] = (await answer.json())["runs"]
            return runs

    async def admin(self, path: str, body: Any = None) -> Any:
        """Ask the minting service as its administrator."""
        method = "GET" if body is None else "POST"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.request(method, self.minting + path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def until(self, run_id: str, *states: str) -> dict[str, Any]:
        """The run as the API shows it, once it is in one of ``states``."""
        async with asyncio.timeout(20):
            while True:
                async with self.session.get(f"http://{self.application.address}/api/v1/runs/{run_id}") as answer:
                    run: dict[str, Any] = await answer.json()
                if run["state"] in states:
                    return run
                await asyncio.sleep(0.02)


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """The shipped rules with the example's settings, whose addresses are replaced by servers of this test."""
    told: list[Any] = []

    async def chat(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.json_response({"ok": True})

    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(api_server())
        cluster.add("deployments", "minting-worker", 2)
        cluster.add("deployments", "minting-service", 3)
        (directory / "token").write_text(TOKEN)
        port = servers.free_port()
        argv = [sys.executable, "-m", "remediator.demo.minting", "--listen", f"127.0.0.1:{port}", "--allow-faults"]
        argv += ["--data-dir", str(directory / "data"), "--token-file", str(directory / "token")]
        argv += ["--stale-after", "0.2"]
        child = await stack.enter_async_context(Child("minting", argv, log=directory / "log"))
        minting = f"http://127.0.0.1:{port}"
        await child.ready(minting + "/health")
        scraped = [f"127.0.0.1:{port}"]
        prometheus = await stack.enter_async_context(servers.prometheus(targets=scraped))
        app = web.Application()
        app.router.add_post("/hooks/minting", chat)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = web.TCPSite(runner, "127.0.0.1", servers.free_port())
        await listener.start()

        settings = yaml.safe_load(EXAMPLE.read_text())
        settings["web"] = {"listen_address": "127.0.0.1:0"}
        settings["storage"] = {"url": f"sqlite://{directory}/remediator.db"}
        settings["intake"].pop("tokens_file")
        settings.pop("users")
        targets = settings["targets"]
        targets["prod"] |= {"kubeconfig": cluster.kubeconfig(directory)}
        targets["minting-api"] |= {"base_url": minting, "bearer_token_file": str(directory / "token")}
        targets["prometheus"]["base_url"] = prometheus.url
        targets["incidents"]["base_url"] = listener.name + "/hooks"
        targets["incidents"].pop("bearer_token_file")
        undo = targets["kubectl"]["commands"]["undo-minting-service"]
        undo["argv"] = [sys.executable, "-c", "print('deployment.apps/minting-service rolled back')"]
        targets["kubectl"] |= {"directory": str(directory)}
        (directory / "remediator.yaml").write_text(yaml.safe_dump(settings))

        application = Application(
            Options(config_file=str(directory / "remediator.yaml"), rules_path=(str(RULES),))
        )
        await application.start()
        stack.push_async_callback(application.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(application, cluster, minting, told, session)
        records = [record async for record in application.store.audit_stream()]
        assert verify(records).ok


async def test_the_queue_backlog_scales_the_workers_and_succeeds_when_the_alert_resolves(tmp_path: Path) -> None:
    """HighQueueDepth, S0-A1: looks at the dependencies, raises the workers to five, and waits for the alert to go."""
    async with site(tmp_path) as here:
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert run["state"] == "verifying", run
        assert here.cluster.replicas("deployments", "minting-worker") == 5
        assert run["evidence"]["health"]["value"]["status"] == 200
        assert run["evidence"]["workers"]["value"]["desired"] == 2
        assert run["steps"][0]["change"]["before"]["replicas"] == 2

        await here.post("am0.25.0__resolved_HighQueueDepth.json")
        assert (await here.until(run_id, "succeeded", "failed"))["state"] == "succeeded"


async def test_workers_are_never_scaled_down_in_an_incident(tmp_path: Path) -> None:
    """T5: the runbook's literal 5 would scale 8 workers down; the rule leaves them alone."""
    async with site(tmp_path) as here:
        here.cluster.set_replicas("deployments", "minting-worker", 8)
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json")
        run = await here.until(run_id, "verifying", "failed", "denied", "succeeded")

        assert run["steps"][0]["outcome"]["summary"].startswith("nothing to do")
        assert here.cluster.writes() == []
        assert here.cluster.replicas("deployments", "minting-worker") == 8


async def test_open_circuit_breakers_deny_more_workers(tmp_path: Path) -> None:
    """More workers against a dependency that is down make it worse: the evidence says so, and the answer is no."""
    async with site(tmp_path) as here:
        await here.admin("/admin/fault", {"open_breakers": 1})
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert (run["state"], run["reason"]) == ("denied", "if")
        assert here.cluster.writes() == []


async def test_two_pods_that_report_one_wallet_are_one_incident_and_tell_people_once(tmp_path: Path) -> None:
    """T3: LowWalletBalance from two pods opens one run, and one message goes out with the wallet's name."""
    async with site(tmp_path) as here:
        (run_id,) = await here.post("am0.33.1__firing_LowWalletBalance.json", instance="minting-worker-0")
        assert await here.post("am0.33.1__firing_LowWalletBalance.json", instance="minting-worker-1") == []
        await here.until(run_id, "verifying")

        assert len(here.told) == 1
        assert "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin" in here.told[0]["text"]


async def test_event_loop_lag_adds_one_pod(tmp_path: Path) -> None:
    """S0-A4: one small step upwards, fixed to an absolute number when the change was computed."""
    async with site(tmp_path) as here:
        (run_id,) = await here.post("am0.33.1__firing_HighEventLoopLag.json")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert run["steps"][0]["change"]["after"]["replicas"] == 4
        assert here.cluster.replicas("deployments", "minting-service") == 4


async def test_the_error_rate_rule_measures_again_and_does_not_act_on_the_alerts_name(tmp_path: Path) -> None:
    """T1: the alert says errors, the measurement says none; without a measured ratio above 5 % the answer is no."""
    async with site(tmp_path) as here:
        (run_id,) = await here.post(
            "am0.33.1__firing_HighQueueDepth.json", alertname="HighErrorRate", severity="critical"
        )
        run = await here.until(run_id, "denied", "held", "failed")

        assert (run["state"], run["reason"]) == ("denied", "if")


async def test_stuck_jobs_are_retried_only_while_there_are_any(tmp_path: Path) -> None:
    """S0-I1: stale jobs are retried through the service's own lever, and the step's outcome says how many."""
    async with site(tmp_path) as here:
        await here.admin("/admin/fault", {"workers": "stuck"})
        await here.admin("/mint", {"count": 3})
        async with asyncio.timeout(15):
            while not (await here.admin("/admin/queue/stale"))["count"]:
                await asyncio.sleep(0.05)
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json", alertname="MintingQueueStuck")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert run["state"] == "verifying", run
        assert run["steps"][0]["outcome"]["data"]["status"] == 200
