"""Levers on Redis and PostgreSQL inside the whole program: alerts over HTTP, rules, leases of changes, the audit."""

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
from tests.integrations.postgres import servers as postgres
from tests.integrations.redis.servers import PERMIT, one_server
from tests.servers import ROOT

PAYLOAD = ROOT / "tests/payloads/am0.33.1__firing_HighQueueDepth.json"
WAIT, ACTIVE = "bull:card-generation:wait", "bull:card-generation:active"
RULES = f"""\
rules:
  - name: rpc-fallback
    owner: team-minting
    mode: auto
    when: {{alert: RpcSlow, group_by: [namespace]}}
    guards: [{{cooldown: 1s}}]
    steps:
      - uses: redis.set_key
        target: cache
        with: {{key: "feature:rpc", value: fallback}}
        lease: {{settle: 500ms, at_most: 1s}}
    verify: {{until: alert.resolved, within: 20m}}

  - name: switch-off
    owner: team-minting
    mode: auto
    when: {{alert: SwitchOff, group_by: [namespace]}}
    guards: [{{cooldown: 1s}}]
    steps:
      - uses: redis.delete_key
        target: cache
        with: {{key: "feature:rpc"}}
        lease: {{settle: 500ms, at_most: 1s}}
    verify: {{until: alert.resolved, within: 20m}}

  - name: reset-breaker
    owner: team-erc8004
    mode: auto
    when: {{alert: BreakersOpen, group_by: [namespace]}}
    guards: [{{cooldown: 1s}}]
    probes:
      - {{id: events, uses: postgres.query, target: db, with: {{statement: recent-events}}}}
      - {{id: queue, uses: redis.llen, target: cache, with: {{key: "{WAIT}", in_flight: "{ACTIVE}"}}}}
    if: probes.events.first.events == 0 && !probes.queue.drained
    steps:
      - uses: postgres.update_row
        target: db
        with: {{row: breaker, key: mint, set: {{state: closed, failure_count: 0}}, only_if: {{state: open}}}}
    verify: {{until: alert.resolved, within: 20m}}

  - name: stuck-queue
    owner: team-cards
    mode: auto
    when: {{alert: QueueStuck, group_by: [namespace]}}
    guards: [{{cooldown: 1s}}]
    steps:
      - uses: redis.quarantine_list
        target: cache
        with: {{key: "{WAIT}"}}
    verify: {{until: alert.resolved, within: 20m}}
"""


class Site:
    """A running Remediator with a Redis and a PostgreSQL."""

    def __init__(self, application: Application, session: aiohttp.ClientSession) -> None:
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
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(20):
                while found.get("state") not in states:
                    await asyncio.sleep(0.02)
                    async with self._session.get(f"{self._url}/runs/{run}") as answer:
                        found = await answer.json()
        except TimeoutError:
            raise AssertionError(found) from None
        return found


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """Everything on loopback; afterwards the audit is verified."""
    redis, database = one_server(), postgres.one_postgres()
    settings = {
        "web": {"listen_address": "127.0.0.1:0"},
        "storage": {"url": f"sqlite://{directory}/remediator.db"},
        "targets": {
            "cache": {"kind": "redis", "addresses": [f"127.0.0.1:{redis.port}"], "permit": PERMIT},
            "db": {"kind": "postgres", **postgres.settings(database)},
        },
    }
    (directory / "remediator.yaml").write_text(yaml.safe_dump(settings))
    (directory / "rules.yaml").write_text(RULES)
    paths = (str(directory / "rules.yaml"),)
    application = Application(Options(config_file=str(directory / "remediator.yaml"), rules_path=paths))
    async with aiohttp.ClientSession() as session:
        await application.start()
        try:
            yield Site(application, session)
            records = [record async for record in application.store.audit_stream()]
            assert verify(records).ok
            assert "canary" not in json.dumps([str(record) for record in records])
        finally:
            await application.stop()


async def _becomes(key: str, wanted: str) -> None:
    async with asyncio.timeout(20):
        while one_server().tell("GET", key) != wanted:
            await asyncio.sleep(0.05)


DONE = ("verifying", "failed", "denied", "needs_human")


async def test_a_switch_goes_back_by_itself(tmp_path: Path) -> None:
    """A key that is set, and one that is deleted, hold again what they held when the lease of the change is over."""
    server = one_server()
    before = "$7\r\nprimary\r\n"
    server.tell("SET", "feature:rpc", "primary")
    async with site(tmp_path) as here:
        for alert, changed in (("RpcSlow", "$8\r\nfallback\r\n"), ("SwitchOff", "$-1\r\n")):
            run = await here.until(await here.alert(alert), *DONE)
            assert run["state"] == "verifying", run
            assert server.tell("GET", "feature:rpc") in (changed, before)
            await _becomes("feature:rpc", before)


async def test_a_breaker_is_reset_on_evidence_of_both(tmp_path: Path) -> None:
    """S3-I5: no events, jobs waiting, open for an hour: one row is closed; and a breaker that is not open is not."""
    redis, database = one_server(), postgres.one_postgres()
    redis.tell("DEL", WAIT, "bull:card-generation:active")
    redis.tell("RPUSH", WAIT, "1")
    postgres.sql(
        database,
        "TRUNCATE processed_events, circuit_breaker_state; "
        "INSERT INTO circuit_breaker_state VALUES ('mint', 'open', 7, now() - interval '1h', NULL)",
    )
    async with site(tmp_path) as here:
        run = await here.until(await here.alert("BreakersOpen"), *DONE)
        assert run["state"] == "verifying", run
        assert postgres.sql(database, "SELECT state, failure_count FROM circuit_breaker_state") == "closed|0"


async def test_jobs_are_put_aside_only_when_a_person_agrees(tmp_path: Path) -> None:
    """T16: whatever the rule's mode says, a list of jobs stays where it is until somebody has approved."""
    server = one_server()
    server.tell("DEL", WAIT)
    server.tell("RPUSH", WAIT, "1", "2")
    async with site(tmp_path) as here:
        run = await here.until(await here.alert("QueueStuck"), *DONE, "awaiting_approval", "held")
        assert run["state"] not in DONE, run
        assert server.tell("LLEN", WAIT) == ":2\r\n"
