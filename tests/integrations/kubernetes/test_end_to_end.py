"""The levers inside the whole program: rules of the runbooks, alerts over HTTP, a cluster, and the audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from remediator.app import Application, Options
from remediator.audit import verify
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.servers import ROOT

PAYLOAD = ROOT / "tests/payloads/am0.33.1__firing_HighQueueDepth.json"
RULES = """\
rules:
  - name: minting-error-rate
    owner: team-minting
    mode: auto
    when: {alert: HighErrorRate, matchers: ['namespace="production"'], group_by: [namespace]}
    guards: [{cooldown: 1s}]
    probes:
      - id: history
        uses: kubernetes.rollout_history
        target: prod
        with: {namespace: production, deployment: minting-service}
    if: probes.history.previous > 0 && !probes.history.rolled_back
    steps:
      - uses: kubernetes.rollout_undo
        target: prod
        with: {namespace: production, deployment: minting-service, only_if_changed_within: 1h}
        timeout: 10m
    verify: {until: alert.resolved, within: 20m}

  - name: minting-rpc
    owner: team-minting
    mode: auto
    when: {alert: SolanaRpcSlow, matchers: ['namespace="production"'], group_by: [namespace]}
    guards: [{cooldown: 1s}]
    steps:
      - uses: kubernetes.set_env
        target: prod
        with:
          namespace: production
          deployment: minting-service
          env: {SOLANA_RPC_ENDPOINT: https://fallback.example.com, MINT_CONCURRENCY: "2"}
        lease: {settle: 1s, at_most: 2s}
        timeout: 10m
    verify: {until: alert.resolved, within: 20m}

  - name: eventchain-error-rate
    owner: team-eventchain
    mode: auto
    when: {alert: EventChainErrorRate, group_by: [namespace]}
    guards: [{cooldown: 1s}]
    steps:
      - uses: kubernetes.rollout_undo
        target: prod
        with: {namespace: production, deployment: api-gateway}
        timeout: 10m
      - uses: kubernetes.rollout_undo
        target: prod
        with: {namespace: production, deployment: event-service}
        timeout: 10m
    verify: {until: alert.resolved, within: 20m}

  - name: ticket-restart
    owner: team-tickets
    mode: auto
    when: {alert: TicketServiceStuck, group_by: [namespace]}
    guards: [{cooldown: 1s}]
    steps:
      - uses: kubernetes.rollout_restart
        target: prod
        with: {namespace: '${{ labels.namespace }}', deployment: ticket-service}
        timeout: 10m
    verify: {until: alert.resolved, within: 20m}
"""
PERMIT = {
    "actions": ["kubernetes.*"],
    "namespaces": ["production"],
    "deployments": ["minting-service", "api-gateway", "event-service", "ticket-service"],
}


class Site:
    """A running Remediator and its cluster."""

    def __init__(self, application: Application, cluster: ApiServer, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self._url = f"http://{application.address}/api/v1"
        self._session = session

    async def alert(self, name: str) -> str:
        """An alert fires; the id of its run."""
        body = json.loads(PAYLOAD.read_text())
        for alert in body["alerts"]:
            alert["labels"]["alertname"] = name
        async with self._session.post(f"{self._url}/alertmanager", json=body) as answer:
            assert answer.status == 200, await answer.text()
            (run,) = (await answer.json())["runs"]
            return str(run)

    async def until(self, run: str, *states: str) -> dict[str, Any]:
        """The run, once it is in one of ``states``."""
        async with asyncio.timeout(20):
            while True:
                async with self._session.get(f"{self._url}/runs/{run}") as answer:
                    found: dict[str, Any] = await answer.json()
                if found["state"] in states:
                    return found
                await asyncio.sleep(0.02)

    def container(self, name: str) -> Any:
        """The container of the deployment as it is now."""
        return self.cluster.get("deployments", name)["spec"]["template"]["spec"]["containers"][0]


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """Everything on loopback; afterwards the audit is verified."""
    async with api_server() as cluster, aiohttp.ClientSession() as session:
        for name in PERMIT["deployments"]:
            cluster.add("deployments", name, 2)
        targets = {"prod": {"kind": "kubernetes", "kubeconfig": cluster.kubeconfig(directory), "permit": PERMIT}}
        settings = {
            "web": {"listen_address": "127.0.0.1:0"},
            "storage": {"url": f"sqlite://{directory}/remediator.db"},
            "targets": targets,
        }
        (directory / "remediator.yaml").write_text(yaml.safe_dump(settings))
        (directory / "rules.yaml").write_text(RULES)
        paths = (str(directory / "rules.yaml"),)
        application = Application(Options(config_file=str(directory / "remediator.yaml"), rules_path=paths))
        await application.start()
        try:
            yield Site(application, cluster, session)
            records = [record async for record in application.store.audit_stream()]
            assert verify(records).ok
        finally:
            await application.stop()


DONE = ("verifying", "failed", "denied", "needs_human")


async def test_a_bad_release_is_rolled_back(tmp_path: Path) -> None:
    """HighErrorRate, S0-R1: the last release goes back by the revision that the evidence showed."""
    async with site(tmp_path) as here:
        here.cluster.roll("minting-service", "minting:1.3")
        run = await here.until(await here.alert("HighErrorRate"), *DONE)
        assert run["state"] == "verifying", run
        assert run["steps"][0]["change"]["after"]["revision"] == 7
        assert here.container("minting-service")["image"] == "minting:1.2"


async def test_an_old_release_is_not_the_cause(tmp_path: Path) -> None:
    """S0-A2 rolls back only if there was a recent deployment: an old one is left, and the run says why."""
    async with site(tmp_path) as here:
        here.cluster.now = lambda: 1_700_000_000.0
        here.cluster.roll("minting-service", "minting:1.3")
        run = await here.until(await here.alert("HighErrorRate"), *DONE)
        assert (run["state"], run["reason"]) == ("failed", "not_recent")
        assert here.cluster.writes() == []


async def test_a_switch_goes_back_by_itself(tmp_path: Path) -> None:
    """S0-I3 with a lease: the fallback endpoint is set, and what was there before comes back when its time is over."""
    async with site(tmp_path) as here:
        here.cluster.roll("minting-service", "minting:1.2", SOLANA_RPC_ENDPOINT="https://rpc.example.com")
        run = await here.until(await here.alert("SolanaRpcSlow"), *DONE)
        assert run["state"] == "verifying", run
        values = {each["name"]: each["value"] for each in here.container("minting-service")["env"]}
        assert values["SOLANA_RPC_ENDPOINT"] == "https://fallback.example.com"
        async with asyncio.timeout(20):
            while len(here.container("minting-service")["env"]) > 1:
                await asyncio.sleep(0.05)
        (only,) = here.container("minting-service")["env"]
        assert only == {"name": "SOLANA_RPC_ENDPOINT", "value": "https://rpc.example.com"}


async def test_both_services_go_back_and_both_are_waited_for(tmp_path: Path) -> None:
    """S1-R1 and T11: two deployments are two steps, and each is done only when its own rollout is."""
    async with site(tmp_path) as here:
        for name in ("api-gateway", "event-service"):
            here.cluster.roll(name, "eventchain:2")
        run = await here.until(await here.alert("EventChainErrorRate"), *DONE)
        assert run["state"] == "verifying", run
        assert [step["state"] for step in run["steps"]] == ["done", "done"]
        assert {here.container(name)["image"] for name in ("api-gateway", "event-service")} == {"minting:1.2"}


async def test_a_restart_without_the_right_is_denied_clearly(tmp_path: Path) -> None:
    """S2-1 with a Role that lacks one verb: nothing is done, and the run names what to grant."""
    async with site(tmp_path) as here:
        here.cluster.use_roles(
            "{kind: Role, metadata: {namespace: production}, rules: [{apiGroups: [apps], resources: [deployments], "
            "resourceNames: [ticket-service], verbs: [get]}]}"
        )
        run = await here.until(await here.alert("TicketServiceStuck"), *DONE)
        assert (run["state"], run["reason"]) == ("failed", "status_403")
        assert 'patch deployments "ticket-service" in namespace production' in run["message"]
        assert "restartedAt" not in str(here.cluster.get("deployments", "ticket-service"))
