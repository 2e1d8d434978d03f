"""At least one rule of each other runbook, as shipped, carried out on real systems on loopback."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integrations.postgres import servers as postgres
from tests.integrations.redis.servers import one_server
from tests.rules.site import RULES, Site, served, site
from tests.rules.test_decision_tree import measured

DONE = ("verifying", "failed", "denied", "needs_human", "succeeded")


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """A service whose every answer has this status."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"ok": status < 400}, status=status)

    async with served(answer) as url:
        yield url


def image(here: Site, name: str) -> str:
    """What a deployment runs."""
    return str(here.cluster.get("deployments", name)["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("smoke", [0, 1])
async def test_eventchain_goes_back_with_both_services_or_not_at_all(tmp_path: Path, smoke: int) -> None:
    """S1-A1, S1-R1, T11: one yes, both services go back; if the smoke test then fails, both are as they were."""
    npm: Mapping[str, Any] = {
        "ssh": None,
        "directory": str(tmp_path),
        "commands": {"smoke": {"argv": [sys.executable, "-c", f"raise SystemExit({smoke})"], "effect": "idempotent"}},
    }
    async with measured(0.2) as url, site(
        tmp_path, RULES / "eventchain.yaml", prometheus={"base_url": url}, eventchain_npm=npm
    ) as here:  # fmt: skip
        for name in ("api-gateway", "event-service"):
            here.cluster.roll(name, "eventchain:2")
        run_id = await here.alert("EventChainHighErrorRate", severity="critical")
        asked = await here.asked(run_id, "gateway_back")
        assert [change["id"] for change in asked["approval"]["changes"]] == ["gateway_back", "events_back", "smoke"]
        await here.approve(asked)
        if smoke == 0:
            run = await here.until(run_id, *DONE)
            assert run["state"] == "verifying", run
            assert {image(here, name) for name in ("api-gateway", "event-service")} == {"minting:1.2"}
        else:
            await here.asked(run_id, "gateway_more")
            assert {image(here, name) for name in ("api-gateway", "event-service")} == {"eventchain:2"}


async def test_the_ticket_service_is_restarted_only_if_the_cluster_says_so_too(tmp_path: Path) -> None:
    """S2-1: nobody answers; while the cluster calls the pods ready nothing is done, and once it does not, a restart."""
    async with site(tmp_path, RULES / "ticket-service.yaml") as here:
        run = await here.until(await here.alert("TicketServiceDown", severity="critical"), *DONE)
        assert (run["state"], run["reason"]) == ("denied", "if")
        assert here.cluster.writes() == []

    (tmp_path / "again").mkdir()
    async with site(tmp_path / "again", RULES / "ticket-service.yaml") as here:
        here.cluster.get("deployments", "ticket-service")["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
        run = await here.until(await here.alert("TicketServiceDown", severity="critical"), *DONE)
        assert run["state"] == "verifying", run
        assert "restartedAt" in str(here.cluster.get("deployments", "ticket-service")["spec"]["template"])


async def test_one_yes_rotates_no_key(tmp_path: Path) -> None:
    """S2-4: the question needs two people; after the yes of one it stays open, and no key has been made."""
    program, told = tmp_path / "ticket-keys", tmp_path / "told"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(told)!r}, 'a').write(sys.argv[1] + '\\n')\n"
        "raise SystemExit(1 if sys.argv[1] == 'exists' else 0)\n"
    )
    program.chmod(0o755)
    keys = {"ssh": None, "directory": str(tmp_path), "environment": {"PATH": f"{tmp_path}:/usr/bin:/bin"}}
    async with site(tmp_path, RULES / "ticket-service.yaml", ticket_keys=keys) as here:
        run_id = await here.alert("TicketKeyRotationDue", service="tickets", severity="warning")
        asked = await here.asked(run_id, "write")
        assert asked["approval"]["needed"] == 2
        await here.approve(asked)
        run = await here.asked(run_id, "write")

        assert run["state"] == "held", run
        assert set(told.read_text().split()) == {"exists"}
        assert here.cluster.writes() == []


def short(directory: Path, name: str, replaced: Mapping[str, str]) -> Path:
    """A shipped file of rules with shorter times: the waiting of a runbook is not waited for here."""
    text = (RULES / f"{name}.yaml").read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    (directory / "rules.yaml").write_text(text)
    return directory / "rules.yaml"


def database(directory: Path) -> dict[str, Any]:
    """Where the real PostgreSQL is; what may be done there is what the example says."""
    found = postgres.settings(postgres.one_postgres(), directory)
    return {key: found[key] for key in ("host", "port", "database", "user", "password_file")}


def breaker() -> str:
    """The state of the breaker of the tests."""
    server = postgres.one_postgres()
    return postgres.sql(server, "SELECT state FROM circuit_breaker_state WHERE trigger_id = 't-rules'").strip()


@pytest.mark.parametrize(("status", "closes"), [(200, True), (503, False)])
async def test_a_breaker_is_closed_only_once_what_it_protects_is_well(
    tmp_path: Path, status: int, closes: bool
) -> None:
    """S3-I5, T20: it gets its time to half-open, then its dependency is asked, then a person."""
    server = postgres.one_postgres()
    postgres.sql(
        server,
        "DELETE FROM circuit_breaker_state WHERE trigger_id = 't-rules';"
        "INSERT INTO circuit_breaker_state VALUES ('t-rules', 'open', 9, now() - interval '10 minutes', NULL)",
    )
    times = {"wait: 90s": "wait: 100ms", "within: 30s, every: 5s": "within: 1s, every: 100ms"}
    rules = short(tmp_path, "erc-8004", times)
    async with answering(status) as url, site(
        tmp_path, rules, erc8004_db=database(tmp_path), erc8004_hooks={"base_url": url}
    ) as here:  # fmt: skip
        run_id = await here.alert("Erc8004BreakerOpen", trigger_id="t-rules", severity="error")
        if closes:
            asked = await here.asked(run_id, "close")
            assert breaker() == "open"
            await here.approve(asked)
            run = await here.until(run_id, *DONE)
            assert run["state"] == "verifying", run
            assert breaker() == "closed"
        else:
            run = await here.until(run_id, "failed", "denied", "succeeded")
            assert [each["state"] for each in run["remedies"]] == ["ineffective", "skipped"], (
                run["state"],
                run["message"],
            )
            assert breaker() == "open"


async def test_a_deep_queue_is_measured_and_nothing_is_scaled_without_seeing_the_workers(tmp_path: Path) -> None:
    """S3-I4: the real queue is counted; where the workers cannot be looked at, unknown is no."""
    server = one_server()
    server.tell("DEL", "action_jobs")
    server.tell("EVAL", "for i = 1, 10001 do redis.call('RPUSH', 'action_jobs', i) end", "0")
    redis = {"addresses": [f"127.0.0.1:{server.port}"]}
    project = {"socket": str(tmp_path / "no-engine.sock")}
    async with site(tmp_path, RULES / "erc-8004.yaml", erc8004_redis=redis, erc8004=project) as here:
        run = await here.until(await here.alert("Erc8004QueueDeep", queue="action_jobs", severity="warning"), *DONE)
        assert run["evidence"]["queue"]["value"]["length"] == 10001
        assert (run["state"], run["reason"]) == ("denied", "no_evidence")
    server.tell("DEL", "action_jobs")


async def test_stuck_jobs_are_put_aside_after_a_yes_and_not_deleted(tmp_path: Path) -> None:
    """S4-3, T16: the worker cannot be restarted, so a person is asked; the jobs are then elsewhere, with an expiry."""
    server = one_server()
    waiting, running = "bull:card-generation:wait", "bull:card-generation:active"
    server.tell("DEL", waiting, running)
    server.tell("RPUSH", waiting, "1", "2", "3")
    server.tell("RPUSH", running, "4")
    cache = {"mode": "single", "addresses": [f"127.0.0.1:{server.port}"], "password_file": None}
    pm2 = {"ssh": None, "home": str(tmp_path / "pm2")}
    async with site(tmp_path, RULES / "card-generation.yaml", cards_cache=cache, cards=pm2) as here:
        run_id = await here.alert("CardQueueStuck", service="card-sandbox", severity="warning")
        asked = await here.asked(run_id, "aside")
        assert (await here.run(run_id))["remedies"][0]["state"] == "failed"
        assert server.tell("LLEN", waiting).strip() == ":3"
        await here.approve(asked)
        run = await here.until(run_id, *DONE)
        assert run["state"] == "verifying", run
        assert server.tell("EXISTS", waiting).strip() == ":0"
        assert server.tell("LLEN", running).strip() == ":1"
        kept = run["steps"][1]["change"]["after"]["key"]
        assert server.tell("LLEN", kept).strip() == ":3", run["steps"][1]
        server.tell("DEL", kept, running)
