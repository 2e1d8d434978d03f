"""The rollback decision tree and the rollback with database changes, as shipped, with a cluster and a real service."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests import servers
from tests.integrations.kubernetes.apiserver import ApiServer, api_server
from tests.integrations.slack.workspace import workspace
from tests.rules.site import RULES, Api, Minting, Site, example, minting_service, served, site

MINTING = RULES / "minting-service.yaml"


@asynccontextmanager
async def measured(ratio: float) -> AsyncIterator[str]:
    """A Prometheus' HTTP API that measures one share of failed requests."""

    async def query(request: web.Request) -> web.Response:
        result = [{"metric": {}, "value": [0, str(ratio)]}]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    async with served(query, "/api/v1/query") as url:
        yield url


@asynccontextmanager
async def tree(directory: Path, ratio: float) -> AsyncIterator[Site]:
    """The site with a measured ratio, and a release of the minting service that is a moment old."""
    async with measured(ratio) as url, site(directory, MINTING, prometheus={"base_url": url}) as here:
        here.cluster.roll("minting-service", "minting:1.3")
        yield here


def image(cluster: ApiServer) -> str:
    """What the minting service runs."""
    found = cluster.get("deployments", "minting-service")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def broken(cluster: ApiServer) -> None:
    """No pod of the minting service is ready, as after a release that does not start."""
    status = cluster.get("deployments", "minting-service")["status"]
    status |= {"readyReplicas": 0, "availableReplicas": 0}


async def remedies(here: Api, run_id: str) -> dict[str, str]:
    """The state of each remedy that had its turn."""
    return {each["name"]: each["state"] for each in (await here.run(run_id))["remedies"]}


async def test_a_service_that_does_not_answer_is_rolled_back_at_once(tmp_path: Path) -> None:
    """NO at the first question: the release goes back without asking anybody, and five pods are wanted."""
    async with tree(tmp_path, 0.0) as here:
        await here.child.stop()
        broken(here.cluster)
        run_id = await here.alert("MintingServiceDown", severity="critical")
        run = await here.until(run_id, "verifying", "failed", "denied", "needs_human")

        assert run["state"] == "verifying", run
        assert not run.get("approval")
        assert image(here.cluster) == "minting:1.2"
        assert here.cluster.replicas("deployments", "minting-service") == 5
        assert await remedies(here, run_id) == {"emergency rollback": "trying"}


async def test_silence_towards_remediator_alone_is_no_outage(tmp_path: Path) -> None:
    """The API does not answer Remediator, and the cluster calls every pod ready: nothing is changed, it is watched."""
    async with tree(tmp_path, 0.0) as here:
        await here.child.stop()
        run_id = await here.alert("MintingServiceDown", severity="critical")
        async with asyncio.timeout(40):
            while (await remedies(here, run_id)).get("watch for 15 minutes") != "trying":
                await asyncio.sleep(0.05)

        assert image(here.cluster) == "minting:1.3"
        assert here.cluster.writes() == []


async def test_a_service_that_answers_and_fails_is_rolled_back_after_a_yes(tmp_path: Path) -> None:
    """YES and more than 5 %: a person is shown the rollback of the recent release, and it is made after their yes."""
    async with tree(tmp_path, 0.2) as here:
        run_id = await here.alert("HighErrorRate", severity="critical")
        asked = await here.asked(run_id, "rollback")
        assert image(here.cluster) == "minting:1.3"
        await here.approve(asked)
        run = await here.until(run_id, "verifying", "failed", "denied", "needs_human")

        assert run["state"] == "verifying", run
        assert image(here.cluster) == "minting:1.2"
        assert here.cluster.replicas("deployments", "minting-service") == 3


async def test_a_release_that_is_not_recent_is_not_the_first_thing_to_go(tmp_path: Path) -> None:
    """S0-A2: with an old release and IPFS in trouble, the switch is proposed and not the rollback."""
    async with measured(0.2) as url, site(tmp_path, MINTING, prometheus={"base_url": url}) as here:
        here.cluster.now = lambda: 1_700_000_000.0
        here.cluster.roll("minting-service", "minting:1.3")
        await here.minting.ask("/admin/fault", {"ipfs_up": False})
        run_id = await here.alert("HighErrorRate", severity="critical")
        await here.asked(run_id, "ipfs_failover")

        assert (await remedies(here, run_id))["quick rollback of a recent release"] == "skipped"
        assert here.cluster.writes() == []


async def test_a_service_that_answers_well_is_watched_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """YES and not more than 5 %: nothing is changed, whatever the alert says; it is decided again in 15 minutes."""
    async with tree(tmp_path, 0.01) as here:
        run_id = await here.alert("HighErrorRate", severity="critical")
        async with asyncio.timeout(40):
            while (await remedies(here, run_id)).get("watch for 15 minutes") != "trying":
                await asyncio.sleep(0.05)
        run = await here.run(run_id)

        assert run["state"] in ("running", "held"), run
        assert here.cluster.writes() == []
        assert image(here.cluster) == "minting:1.3"


async def test_both_alerts_of_one_outage_are_one_run(tmp_path: Path) -> None:
    """HighErrorRate and MintingServiceDown of one place together roll back once."""
    async with tree(tmp_path, 0.2) as here:
        run_id = await here.alert("HighErrorRate", severity="critical")
        await here.asked(run_id, "rollback")
        labels = {"alertname": "MintingServiceDown", "severity": "critical"}
        assert await here.post("am0.33.1__firing_HighQueueDepth.json", **labels) == []


class Outage:
    """What the rollback with database changes acts on, and a Remediator in a process that can be killed."""

    def __init__(self, directory: Path, cluster: ApiServer, minting: Minting, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.cluster = cluster
        self.minting = minting
        self._session = session
        self.server: servers.Server | None = None
        self._port = servers.free_port()

    @property
    def migrated_back(self) -> int:
        """How often the migration was taken back."""
        log = self.directory / "migrations"
        return len(log.read_text().splitlines()) if log.exists() else 0

    async def start(self) -> Api:
        """Start Remediator, or start it again on the same address and the same store."""
        config, rules = self.directory / "remediator.yaml", f"--rules.path={MINTING}"
        self.server = await asyncio.to_thread(servers.start_remediator, config, rules, port=self._port)
        return Api(self.server.url.removeprefix("http://"), self._session)

    async def stats(self) -> Any:
        """The queue in numbers."""
        return await self.minting.ask("/admin/queue/stats")


@asynccontextmanager
async def outage(directory: Path) -> AsyncIterator[Outage]:
    """Systems on loopback, with mints that take half a second each."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(api_server())
        for name in ("minting-service", "minting-worker"):
            cluster.add("deployments", name, 2)
        cluster.roll("minting-service", "minting:1.3")
        slack = await stack.enter_async_context(workspace())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        minting, _ = await minting_service(stack, directory, session)
        settings = example(directory, cluster, slack)
        targets = settings["targets"]
        targets["minting-api"] |= {"base_url": minting.url, "bearer_token_file": str(directory / "token")}
        npm = targets["minting-npm"]
        npm.pop("ssh")
        append = "import pathlib; pathlib.Path('migrations').open('a').write('back\\n')"
        npm["directory"] = str(directory)
        npm["commands"]["migrate-rollback"]["argv"] = [sys.executable, "-c", append]
        (directory / "remediator.yaml").write_text(json.dumps(settings))
        here = Outage(directory, cluster, minting, session)
        try:
            yield here
        finally:
            if here.server is not None:
                here.server.kill()
                here.server.stop()


async def test_a_rollback_with_database_changes_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    """S0-R2, T14: pause, wait until no worker holds a mint although many wait, roll back, migrate back, resume."""
    async with outage(tmp_path) as here:
        await here.minting.ask("/mint", {"count": 20})
        api = await here.start()
        run_id = await api.alert("MintingErrorsAfterMigration", severity="critical")
        asked = await api.asked(run_id, "pause")
        assert not (await here.stats())["paused"]
        await api.approve(asked)
        asked = await api.asked(run_id, "rollback")
        stats = await here.stats()
        assert stats["paused"] and stats["active"] == 0 and stats["waiting"] > 0
        assert image(here.cluster) == "minting:1.3" and here.migrated_back == 0
        await api.approve(asked)
        run = await api.until(run_id, "verifying", "failed", "denied", "needs_human", "succeeded")

        assert run["state"] == "verifying", run
        assert image(here.cluster) == "minting:1.2" and here.migrated_back == 1
        assert not (await here.stats())["paused"]


async def test_the_queue_is_resumed_although_remediator_dies_while_it_is_paused(tmp_path: Path) -> None:
    """SIGKILL between pausing and rolling back; the next process finds the run, a person says no, the queue goes on."""
    async with outage(tmp_path) as here:
        await here.minting.ask("/mint", {"count": 3})
        api = await here.start()
        run_id = await api.alert("MintingErrorsAfterMigration", severity="critical")
        await api.approve(await api.asked(run_id, "pause"))
        async with asyncio.timeout(40):
            while not (await here.stats())["paused"]:
                await asyncio.sleep(0.01)
        assert here.server is not None
        here.server.kill()
        here.server.wait()
        assert (await here.stats())["paused"]

        api = await here.start()
        asked = await api.asked(run_id, "rollback")
        url = f"http://{api.address}/api/v1/runs/{run_id}/reject"
        async with api.session.post(url, json={"digest": asked["approval"]["digest"]}) as answer:
            assert answer.status == 200, await answer.text()
        run = await api.until(run_id, "denied", "failed", "needs_human", "cancelled")

        assert run["state"] == "denied", run
        assert not (await here.stats())["paused"]
        assert image(here.cluster) == "minting:1.3" and here.migrated_back == 0
