"""The rules for the minting service, carried out: loaded as shipped, answered by real services on loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from remediator.catalogue import Catalogue
from remediator.rulebook import load_rulebook
from tests.rules.site import PAYLOADS, RULES, Site, site

MINTING = RULES / "minting-service.yaml"


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
    labels = json.loads((PAYLOADS / payload).read_text())["alerts"][0]["labels"]
    if "wallet" in labels:
        labels["wallet"] = "minting"  # the captured body has an address where our exporter has a name

    assert [rule.name for rule in load_rulebook([RULES], Catalogue()).match(labels)] == rules


async def test_the_queue_backlog_scales_the_workers_and_succeeds_when_the_alert_resolves(tmp_path: Path) -> None:
    """HighQueueDepth, S0-A1: looks at the dependencies, raises the workers to five, and waits for the alert to go."""
    async with site(tmp_path, MINTING) as here:
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
    async with site(tmp_path, MINTING) as here:
        here.cluster.set_replicas("deployments", "minting-worker", 8)
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json")
        run = await here.until(run_id, "verifying", "failed", "denied", "succeeded")

        assert run["steps"][0]["outcome"]["summary"].startswith("nothing to do")
        assert here.cluster.writes() == []
        assert here.cluster.replicas("deployments", "minting-worker") == 8


async def test_open_circuit_breakers_deny_more_workers(tmp_path: Path) -> None:
    """More workers against a dependency that is down make it worse: the evidence says so, and the answer is no."""
    async with site(tmp_path, MINTING) as here:
        await here.minting.ask("/admin/fault", {"open_breakers": 1})
        (run_id,) = await here.post("am0.33.1__firing_HighQueueDepth.json")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert (run["state"], run["reason"]) == ("denied", "if")
        assert here.cluster.writes() == []


async def test_two_pods_that_report_one_wallet_are_one_run_and_an_unknown_balance_pays_nothing(tmp_path: Path) -> None:
    """T3: LowWalletBalance from two pods opens one run; while the chain cannot be asked, nothing is paid."""
    async with site(tmp_path, MINTING) as here:
        payload = "am0.33.1__firing_LowWalletBalance.json"
        (run_id,) = await here.post(payload, instance="minting-worker-0", wallet="minting")
        assert await here.post(payload, instance="minting-worker-1", wallet="minting") == []
        run = await here.until(run_id, "denied", "held", "failed", "verifying")

        assert (run["state"], run["reason"]) == ("denied", "no_evidence")
        assert not run["evidence"]["wallet"]["ok"]


async def test_event_loop_lag_adds_one_pod(tmp_path: Path) -> None:
    """S0-A4: one small step upwards, fixed to an absolute number when the change was computed."""
    async with site(tmp_path, MINTING) as here:
        (run_id,) = await here.post("am0.33.1__firing_HighEventLoopLag.json")
        run = await here.until(run_id, "verifying", "failed", "denied")

        assert run["steps"][0]["change"]["after"]["replicas"] == 4
        assert here.cluster.replicas("deployments", "minting-service") == 4


async def _stuck(here: Site) -> None:
    await here.minting.ask("/admin/fault", {"workers": "stuck"})
    await here.minting.ask("/mint", {"count": 3})
    async with asyncio.timeout(15):
        while not (await here.minting.ask("/admin/queue/stale"))["count"]:
            await asyncio.sleep(0.05)


async def test_stuck_jobs_are_retried_first(tmp_path: Path) -> None:
    """S0-I1, first action: stale jobs are retried through the service's own lever, and the workers stay."""
    async with site(tmp_path, MINTING) as here:
        await _stuck(here)
        run = await here.until(await here.alert("MintingQueueStuck"), "verifying", "failed", "denied")

        assert run["state"] == "verifying", run
        assert run["steps"][0]["outcome"]["data"]["status"] == 200
        assert here.cluster.writes() == []


async def test_workers_are_restarted_where_no_job_is_stale(tmp_path: Path) -> None:
    """S0-I1, second action: where there is nothing to retry, the workers are restarted."""
    async with site(tmp_path, MINTING) as here:
        run = await here.until(await here.alert("MintingQueueStuck"), "verifying", "failed", "denied")

        assert run["state"] == "verifying", run
        assert "restartedAt" in str(here.cluster.get("deployments", "minting-worker")["spec"]["template"])


async def test_a_queue_that_somebody_paused_is_left_alone(tmp_path: Path) -> None:
    """A paused queue completes nothing, and is not stuck: nothing is restarted."""
    async with site(tmp_path, MINTING) as here:
        await here.minting.ask("/admin/queue/pause", {})
        run = await here.until(await here.alert("MintingQueueStuck"), "verifying", "failed", "denied")

        assert (run["state"], run["reason"]) == ("denied", "if")
        assert here.cluster.writes() == []


async def test_ipfs_failover_is_set_for_a_while(tmp_path: Path) -> None:
    """S0-I4: uploads go to the other provider, and the run has a way back that waits for the alert's end."""
    async with site(tmp_path, MINTING) as here:
        await here.minting.ask("/admin/fault", {"ipfs_up": False})
        run = await here.until(await here.alert("MintingIpfsFailing"), "verifying", "failed", "denied")

        assert run["state"] == "verifying", run
        container = here.cluster.get("deployments", "minting-service")["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "IPFS_FAILOVER_ENABLED", "value": "true"} in container["env"]
        url = f"http://{here.address}/api/v1/changes?limit=10"
        async with here.session.get(url) as answer:
            (change,) = (await answer.json())["items"]
        assert change["state"] == "held"
