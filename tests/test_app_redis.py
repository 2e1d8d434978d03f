"""Proves with real processes that a service beside Redis starts, works, watches and stops whatever Redis does."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from remediator.app import Application, Options
from remediator.errors import InputError
from tests.redis import RedisServer, redis_server
from tests.servers import ROOT, Server, serve

RULES = """
rules:
  - name: one
    mode: observe
    when: {alert: A}
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of its own for each test, because they end it."""
    with redis_server() as server:
        yield server


def _settings(folder: Path, redis: RedisServer) -> Path:
    (folder / "rules").mkdir()
    (folder / "rules" / "one.yaml").write_text(RULES)
    path = folder / "remediator.yaml"
    path.write_text(
        f"storage: {{url: 'sqlite:{folder}/store.db'}}\n"
        f"redis: {{url: '{redis.url}'}}\n"
        "targets: {api: {kind: http, base_url: 'http://127.0.0.1:1', permit: {actions: [http.post], paths: [/x]}}}\n"
    )
    return path


async def _parts(session: aiohttp.ClientSession, server: Server) -> tuple[int, dict[str, Any]]:
    async with session.get(f"{server.url}/-/ready?verbose") as answer:
        return answer.status, await answer.json()


async def _until(session: aiohttp.ClientSession, server: Server, health: Callable[[str], bool]) -> str:
    """Wait until Redis is as wanted; the service is ready all the time."""
    async with asyncio.timeout(15):
        while True:
            status, parts = await _parts(session, server)
            assert (status, parts["ready"]) == (200, True)
            if health(parts["redis"]):
                return str(parts["redis"])
            await asyncio.sleep(0.02)


async def _deliver(session: aiohttp.ClientSession, server: Server, name: str) -> float:
    """Deliver an alert; the seconds until it was committed."""
    body = json.loads((ROOT / "tests" / "payloads" / "am0.33.1__firing_HighQueueDepth.json").read_text())
    body["alerts"] = [{**body["alerts"][0], "labels": {"alertname": "A", "name": name}}]
    begun = time.monotonic()
    async with session.post(f"{server.url}/api/v1/alertmanager", json=body) as answer:
        assert (answer.status, len((await answer.json())["runs"])) == (200, 1)
    return time.monotonic() - begun


async def _ended(session: aiohttp.ClientSession, server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            async with session.get(f"{server.url}/api/v1/runs?state=observed") as answer:
                if len((await answer.json())["items"]) == count:
                    return
            await asyncio.sleep(0.02)


async def test_a_service_lives_through_every_state_of_redis(redis: RedisServer, tmp_path: Path) -> None:
    """Redis well, hanging, dead, back and flushed: every alert is taken at once, and readiness only tells of it."""
    config = _settings(tmp_path, redis)
    rules = f"--rules.path={tmp_path / 'rules'}"
    async with serve(config, rules) as server, aiohttp.ClientSession() as session:
        await _until(session, server, lambda health: health == "ok")
        done = 0
        for harm in (lambda: None, redis.freeze, redis.thaw, redis.kill, redis.start, lambda: redis.tell("FLUSHALL")):
            harm()
            for _ in range(2):
                assert await _deliver(session, server, f"alert-{done}") < 1
                done += 1
            await _ended(session, server, done)
        redis.kill()
        told = await _until(session, server, lambda health: health.startswith("degraded: "))
        assert str(redis.port) in told
        async with session.get(f"{server.url}/metrics") as answer:
            assert "remediator_redis_up 0" in await answer.text()
        redis.start()
        await _until(session, server, lambda health: health == "ok")


@pytest.mark.parametrize("harm", [RedisServer.kill, RedisServer.freeze], ids=["dead", "hanging"])
async def test_a_service_starts_and_stops_without_its_redis(
    redis: RedisServer, tmp_path: Path, harm: Callable[[RedisServer], None]
) -> None:
    """A Redis that is dead or hangs delays neither the start nor the end of the service, which is told by its log."""
    harm(redis)
    async with serve(_settings(tmp_path, redis), f"--rules.path={tmp_path / 'rules'}") as server:
        async with aiohttp.ClientSession() as session:
            await _until(session, server, lambda health: health.startswith("degraded: "))
            assert await _deliver(session, server, "a") < 1
        begun = time.monotonic()
        status = await asyncio.to_thread(server.stop)
        assert (status, time.monotonic() - begun < 6) == (0, True)


async def test_a_start_that_fails_leaves_nothing_behind(redis: RedisServer, tmp_path: Path) -> None:
    """A service whose address is taken gives back its store and its links to Redis, so that its process ends."""
    config, rules = _settings(tmp_path, redis), (str(tmp_path / "rules"),)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for _ in range(2):  # The second one would find the file of the store locked.
            application = Application(Options(config_file=str(config), rules_path=rules, listen_address=address))
            with pytest.raises(InputError, match="cannot listen"):
                await application.start()
            assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_watching_does_not_keep_a_service_from_stopping(redis: RedisServer, tmp_path: Path) -> None:
    """Whoever watches sees the stop as the end of the stream, after everything that was committed before it."""
    async with (
        serve(_settings(tmp_path, redis), f"--rules.path={tmp_path / 'rules'}") as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/api/v1/events") as watched,
    ):
        assert watched.status == 200
        await _deliver(session, server, "a")
        await _ended(session, server, 1)
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        told = await watched.text()
        assert await stopping == 0
    assert told.count("event: delivery\n") == 1
    assert '"state":"queued"' in told and '"state":"observed"' in told
