"""The shipped RPC failover on endpoints of a real Solana virtual machine: there, and back once the first is well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from remediator.run import Kind
from tests.integrations.redis.servers import one_server
from tests.integrations.solana.chain import Cluster, cluster
from tests.rules.site import PAYLOADS, RULES, SECONDS, Site, served, site

SHORT = {
    "settle: 30m, at_most: 12h}": "every: 200ms, settle: 2s, at_most: 12h}",
    "          set:\n            uses": "          samples: 2\n          every: 10ms\n          set:\n            uses",
    "verify: {until: alert.resolved, within: 20m}": "verify: {until: alert.resolved, within: 20m, every: 200ms}",
    "- cooldown: 15m": "- cooldown: 1s",
}
"""The shipped times, and how long this test waits instead."""


class Failing:
    """The alert about the ticket service's endpoint, in one life after another."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.life = 0

    def body(self, status: str) -> dict[str, Any]:
        """What Alertmanager sends."""
        body: dict[str, Any] = json.loads((PAYLOADS / "am0.33.1__firing_HighQueueDepth.json").read_text())
        began = datetime.now(UTC) - timedelta(hours=1) + timedelta(minutes=10 * self.life)
        alert = body["alerts"][0]
        alert |= {"status": status, "startsAt": began.replace(second=0, microsecond=0).isoformat()}
        alert["labels"]["alertname"] = "TicketRpcFailing"
        if status == "resolved":
            alert["endsAt"] = datetime.now(UTC).isoformat()
        return body

    async def fires(self) -> str:
        """A new life begins; its run."""
        self.life += 1
        (run_id,) = await self.here.deliver(self.body("firing"))
        return run_id

    async def resolves(self) -> None:
        """The life ends."""
        await self.here.deliver(self.body("resolved"))


def used(here: Site) -> str | None:
    """What the ticket service is told to use."""
    container = here.cluster.get("deployments", "ticket-service")["spec"]["template"]["spec"]["containers"][0]
    return next((each["value"] for each in container.get("env", ()) if each["name"] == "SOLANA_RPC_ENDPOINT"), None)


async def eventually(what: Callable[[], bool]) -> None:
    """Returns once it is so."""
    async with asyncio.timeout(SECONDS):
        while not what():
            await asyncio.sleep(0.02)


def shipped() -> str:
    """The shipped rule with short times."""
    text = (RULES / "ticket-service.yaml").read_text()
    for old, new in SHORT.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def pool(
    directory: Path, text: str = "", **targets: Mapping[str, Any]
) -> AsyncIterator[tuple[Site, Cluster, Failing]]:
    """The shipped rule, or ``text``, three endpoints of one cluster, and a service that uses the first."""
    (directory / "rules.yaml").write_text(text or shipped())
    async with cluster(nodes=3) as chain:
        names = ("primary", "second", "third")
        endpoints = [
            {"name": name, "url": url, "value": f"https://{name}.example"}
            for name, url in zip(names, chain.urls, strict=True)
        ]
        settings = {"genesis": chain.chain.genesis, "endpoints": endpoints}
        async with site(directory, directory / "rules.yaml", solana_rpc=settings, **targets) as here:
            template = here.cluster.get("deployments", "ticket-service")["spec"]["template"]
            template["spec"]["containers"][0]["env"] = [
                {"name": "SOLANA_RPC_ENDPOINT", "value": "https://primary.example"}
            ]
            yield here, chain, Failing(here)


async def test_it_leaves_a_sick_endpoint_and_returns_when_that_is_well(tmp_path: Path) -> None:
    """Moved, and the alert ends because of it: that alone takes nothing back. Steady health of the first one does."""
    async with pool(tmp_path) as (here, chain, failing):
        chain.nodes[0].lag, chain.nodes[1].lag = 400, 20
        run = await here.until(await failing.fires(), "verifying", "failed", "denied")
        assert (run["state"], used(here)) == ("verifying", "https://third.example")
        await failing.resolves()
        assert (await here.until(run["id"], "succeeded", "failed"))["state"] == "succeeded"
        await asyncio.sleep(3)
        assert used(here) == "https://third.example", "the alert is over, and the first endpoint still lags"

        # It comes and goes: never well for the settle time.
        for _ in range(3):
            chain.nodes[0].lag = 0
            await asyncio.sleep(1)
            chain.nodes[0].lag = 400
            await asyncio.sleep(0.6)
        assert used(here) == "https://third.example"
        chain.nodes[0].lag = 0
        await eventually(lambda: used(here) == "https://primary.example")


async def test_when_the_fallback_fails_too_it_goes_to_what_is_well(tmp_path: Path) -> None:
    """What is in use is read from the service: the second one fails, the first is well, and back it goes for good."""
    async with pool(tmp_path) as (here, chain, failing):
        chain.nodes[0].lag, chain.nodes[2].genesis = 400, "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
        run = await here.until(await failing.fires(), "verifying", "failed", "denied")
        assert (run["state"], used(here)) == ("verifying", "https://second.example")
        await failing.resolves()
        await here.until(run["id"], "succeeded", "failed")

        chain.nodes[0].lag, chain.nodes[1].raw = 0, lambda method: (429, "text/plain", b"")
        await asyncio.sleep(1.1)
        run = await here.until(await failing.fires(), "verifying", "failed", "denied")
        assert (run["state"], used(here)) == ("verifying", "https://primary.example"), run
        await failing.resolves()
        await here.until(run["id"], "succeeded", "failed")
        await asyncio.sleep(3)
        assert used(here) == "https://primary.example"
        ways_back = await here.application.store.runs(kinds=(Kind.REVERT,))
        assert [back.reason for back in ways_back] == ["already_back"], "what went back for good has no way back itself"


async def test_no_endpoint_that_is_well_means_no_change(tmp_path: Path) -> None:
    """One is silent, one of another cluster, one talks nonsense: nothing is written, and the record says why."""
    async with pool(tmp_path) as (here, chain, failing):
        chain.nodes[0].raw = lambda method: (500, "text/plain", b"")
        chain.nodes[1].genesis = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
        chain.nodes[2].lie["getSlot"] = "a lot"
        run = await here.until(await failing.fires(), "verifying", "failed", "denied")
        assert run["state"] == "denied" and here.cluster.writes() == []
        assert "no endpoint of the pool is well" in run["evidence"]["endpoint"]["error"]


OTHERWISE = """\
rules:
  - name: elsewhere
    mode: auto
    when: {alert: TicketRpcFailing}
    if: probes.endpoint.switch
    steps:
      - id: endpoint
        uses: rpc.switch
        target: solana-rpc
        with:
          samples: 2
          every: 10ms
          set: SET
        lease: {every: 200ms, settle: 1s, at_most: 1h}
    verify: {until: alert.resolved, within: 20m, every: 200ms}
"""


async def test_where_the_service_reads_a_redis_key(tmp_path: Path) -> None:
    """The same switch through a key of a real Redis: set, and back to what was there before."""
    server = one_server()
    server.tell("SET", "rpc:endpoint", "https://primary.example")
    redis = {
        "addresses": [f"127.0.0.1:{server.port}"],
        "permit": {"actions": ["redis.set_key"], "keys": ["rpc:endpoint"], "writable_keys": ["rpc:endpoint"]},
    }
    key = "{key: 'rpc:endpoint', value: '${{ probes.endpoint.value }}'}"
    way = f"{{uses: redis.set_key, target: erc8004-redis, with: {key}}}"

    def now() -> str:
        return server.tell("GET", "rpc:endpoint").splitlines()[-1]

    async with pool(tmp_path, OTHERWISE.replace("SET", way), erc8004_redis=redis) as (here, chain, failing):
        chain.nodes[0].lag, chain.nodes[1].lag = 400, 20
        run = await here.until(await failing.fires(), "verifying", "failed", "denied")
        assert (run["state"], now()) == ("verifying", "https://third.example"), run
        await failing.resolves()
        await asyncio.sleep(2)
        assert now() == "https://third.example"
        chain.nodes[0].lag = 0
        await eventually(lambda: now() == "https://primary.example")
    server.tell("DEL", "rpc:endpoint")


async def test_where_the_service_is_told_by_its_api(tmp_path: Path) -> None:
    """The same switch through an administrator's call: told, and told the first endpoint again by the call's undo."""
    told = ["https://primary.example"]

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            told.append((await request.json())["endpoint"])
        return web.json_response({"endpoint": told[-1]})

    permit = {"actions": ["http.get", "http.post"], "paths": ["/admin/rpc"]}
    way = """{uses: http.post, target: ticket-api, with: {path: /admin/rpc,
            json: {endpoint: '${{ probes.endpoint.value }}'},
            check: {path: /admin/rpc, json_path: endpoint, equals: '${{ probes.endpoint.value }}'},
            undo: {path: /admin/rpc, json: {endpoint: 'https://primary.example'}}}}"""
    async with served(answer, "/admin/rpc") as url:
        api = {"base_url": url, "permit": permit}
        async with pool(tmp_path, OTHERWISE.replace("SET", way), ticket_api=api) as (here, chain, failing):
            chain.nodes[0].lag, chain.nodes[1].lag = 400, 20
            run = await here.until(await failing.fires(), "verifying", "failed", "denied")
            assert (run["state"], told[1:]) == ("verifying", ["https://third.example"]), run
            await failing.resolves()
            chain.nodes[0].lag = 0
            await eventually(lambda: told[1:] == ["https://third.example", "https://primary.example"])
