"""The demonstration's minting service, driven over HTTP as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from remediator.demo.process import Child, free_port

TOKEN = "let-me-in-0123456789"


@dataclass
class Service:
    """A running minting service, and the two ways to ask it: as anybody and as its administrator."""

    child: Child
    url: str
    session: aiohttp.ClientSession

    async def ask(
        self,
        path: str,
        body: Any = None,
        *,
        status: int = 200,
        token: str | None = TOKEN,
        raw: bytes | None = None,
    ) -> Any:
        """The JSON answer of a GET, or of a POST where there is a body; its status must be ``status``."""
        method = "GET" if body is None and raw is None else "POST"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(
            method, self.url + path, json=body if raw is None else None, data=raw, headers=headers
        ) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def metrics(self) -> dict[tuple[str, str], float]:
        """Every sample by its name and the value of its only label."""
        async with self.session.get(self.url + "/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
            return {
                (sample.name, "".join(sample.labels.values())): sample.value
                for family in families
                for sample in family.samples
            }

    async def until(self, path: str, condition: Any) -> Any:
        """The answer of ``path`` once it fulfils ``condition``."""
        async with asyncio.timeout(15):
            while True:
                answer = await self.ask(path)
                if condition(answer):
                    return answer
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(directory: Path, *flags: str) -> AsyncIterator[Service]:
    """The service on a free port, with its state in ``directory``."""
    port = free_port()
    (directory / "token").write_text(TOKEN + "\n")
    argv = [sys.executable, "-m", "remediator.demo.minting", "--listen", f"127.0.0.1:{port}"]
    argv += ["--data-dir", str(directory / "data"), "--token-file", str(directory / "token"), *flags]
    url = f"http://127.0.0.1:{port}"
    async with Child("minting", argv, log=directory / "log") as child, aiohttp.ClientSession() as session:
        await child.ready(url + "/health")
        yield Service(child, url, session)


FAST = ("--seconds-per-mint", "0.005")
IDLE = ("--workers", "0")
FAULTS = ("--allow-faults", "--stale-after", "0.2")


async def test_mints_are_queued_worked_on_and_counted(tmp_path: Path) -> None:
    """Mints that are asked for are carried out by workers, and health and metrics tell the same numbers."""
    async with running(tmp_path, *FAST) as service:
        answer = await service.ask("/mint", {"count": 30}, status=202, token=None)
        assert answer["accepted"] == 30
        stats = await service.until("/admin/queue/stats", lambda stats: stats["completed"] == 30)
        assert (stats["waiting"], stats["active"], stats["failed"]) == (0, 0, 0)
        health = await service.ask("/health/detailed", token=None)
        assert health["components"]["queue"]["completed"] == 30
        assert health["components"]["circuitBreakers"] == {"open": 0}
        assert health["components"]["ipfs"] == {"status": "ok"}
        metrics = await service.metrics()
        assert metrics["minting_queue_depth", "completed"] == 30
        assert metrics["minting_requests_total", ""] == 30
        assert metrics["minting_errors_total", ""] == 0
        assert metrics["minting_workers", ""] == 2
        assert metrics["minting_event_loop_lag_ms", ""] >= 0
        wallet = (await service.ask("/health/solana", token=None))["wallet"]
        assert wallet["balance"] == metrics["minting_wallet_balance_sol", "minting"] == 25 - 30 * 0.0005


async def test_the_number_of_workers_is_absolute(tmp_path: Path) -> None:
    """Setting the same number twice changes nothing the second time, so a repeated request is harmless."""
    async with running(tmp_path, *IDLE) as service:
        await service.ask("/mint", {"count": 50}, status=202)
        assert (await service.ask("/admin/queue/stats"))["waiting"] == 50
        assert await service.ask("/admin/workers", {"count": 5}) == {"workers": 5, "previous": 0}
        assert await service.ask("/admin/workers", {"count": 5}) == {"workers": 5, "previous": 5}
        await service.until("/admin/queue/stats", lambda stats: stats["completed"] == 50)
        assert await service.ask("/admin/workers", {"count": 0}) == {"workers": 0, "previous": 5}
        await service.ask("/mint", {"count": 1}, status=202)
        await asyncio.sleep(0.2)
        assert (await service.ask("/admin/queue/stats"))["waiting"] == 1


async def test_more_workers_work_at_the_same_time(tmp_path: Path) -> None:
    """Twenty workers have twenty mints in hand at once; the pool is real and not a number."""
    async with running(tmp_path, "--seconds-per-mint", "0.5", "--workers", "20") as service:
        await service.ask("/mint", {"count": 100}, status=202)
        stats = await service.until("/admin/queue/stats", lambda stats: stats["active"] > 0)
        assert (stats["active"], stats["waiting"]) == (20, 80)


async def test_a_paused_queue_takes_nothing_and_resumes(tmp_path: Path) -> None:
    """A pause lets new mints wait, also over a restart, and a resume lets them through."""
    async with running(tmp_path, *FAST) as service:
        assert await service.ask("/admin/queue/pause", {}) == {"paused": True}
        await service.ask("/mint", {"count": 10}, status=202)
        await asyncio.sleep(0.1)
        assert (await service.ask("/admin/queue/stats"))["waiting"] == 10
    async with running(tmp_path, *FAST) as service:
        await asyncio.sleep(0.1)
        stats = await service.ask("/admin/queue/stats")
        assert (stats["waiting"], stats["paused"]) == (10, True)
        assert await service.ask("/admin/queue/resume", {}) == {"paused": False}
        await service.until("/admin/queue/stats", lambda stats: stats["completed"] == 10)


async def test_a_killed_service_loses_no_mint(tmp_path: Path) -> None:
    """After SIGKILL in the middle of work every mint is still there and is carried out by the next start."""
    async with running(tmp_path, "--seconds-per-mint", "0.05", "--workers", "4") as service:
        await service.ask("/mint", {"count": 40}, status=202)
        await service.until("/admin/queue/stats", lambda stats: stats["completed"] >= 4)
        await service.child.kill()
    async with running(tmp_path, *FAST) as service:
        stats = await service.until("/admin/queue/stats", lambda stats: stats["completed"] == 40)
        assert (stats["waiting"], stats["active"], stats["failed"]) == (0, 0, 0)
        assert stats["workers"] == 4, "the pool's size is state and survives the restart"


async def test_stuck_mints_become_stale_and_can_be_retried(tmp_path: Path) -> None:
    """Workers that hang leave stale mints, which degrade health until retried; none is minted twice."""
    async with running(tmp_path, *FAST, *FAULTS) as service:
        await service.ask("/admin/fault", {"workers": "stuck"})
        await service.ask("/mint", {"count": 6}, status=202)
        stale = await service.until("/admin/queue/stale", lambda stale: stale["count"] == 2)
        assert all(item["seconds"] >= 0.2 for item in stale["items"])
        assert (await service.ask("/health"))["status"] == "degraded"
        assert await service.ask("/admin/queue/retry-stale", {}) == {"retried": 2}
        assert (await service.ask("/admin/queue/stats"))["waiting"] == 6
        await service.ask("/admin/fault", {"workers": "none"})
        await service.until("/admin/queue/stats", lambda stats: stats["completed"] == 6)
        assert (await service.ask("/health"))["status"] == "ok"
        wallet = (await service.ask("/health/solana"))["wallet"]
        assert wallet["balance"] == 25 - 6 * 0.0005


async def test_failures_and_an_empty_wallet_are_errors_in_the_metrics(tmp_path: Path) -> None:
    """Mints that fail, for a fault or for want of money, are counted as failed and as errors."""
    async with running(tmp_path, *FAST, *FAULTS) as service:
        await service.ask("/admin/fault", {"workers": "failing"})
        await service.ask("/mint", {"count": 3}, status=202)
        await service.until("/admin/queue/stats", lambda stats: stats["failed"] == 3)
        await service.ask("/admin/fault", {"workers": "none", "balance": 0})
        await service.ask("/mint", {"count": 2}, status=202)
        await service.until("/admin/queue/stats", lambda stats: stats["failed"] == 5)
        metrics = await service.metrics()
        assert metrics["minting_errors_total", ""] == metrics["minting_requests_total", ""] == 5
        assert metrics["minting_wallet_balance_sol", "minting"] == 0


async def test_broken_surroundings_show_in_health(tmp_path: Path) -> None:
    """Open circuit breakers and a dead IPFS degrade health, each under its own component."""
    async with running(tmp_path, *FAULTS) as service:
        await service.ask("/admin/fault", {"open_breakers": 2, "ipfs_up": False})
        health = await service.ask("/health/detailed")
        assert health["status"] == "degraded"
        assert health["components"]["circuitBreakers"]["open"] == 2
        assert health["components"]["ipfs"]["status"] == "down"


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1]])
async def test_the_admin_routes_are_closed_without_the_token(tmp_path: Path, token: str | None) -> None:
    """Nobody without the exact token resizes, pauses or even reads the queue."""
    async with running(tmp_path, *FAULTS) as service:
        await service.ask("/admin/workers", {"count": 9}, status=401, token=token)
        await service.ask("/admin/queue/stats", status=401, token=token)
        await service.ask("/admin/fault", {"workers": "stuck"}, status=401, token=token)
        assert (await service.ask("/admin/queue/stats"))["workers"] == 2


async def test_faults_exist_only_where_they_are_allowed(tmp_path: Path) -> None:
    """Without --allow-faults even the administrator cannot cause trouble."""
    async with (
        running(tmp_path) as service,
        service.session.post(
            service.url + "/admin/fault", json={}, headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer,
    ):
        assert answer.status == 404


async def test_nonsense_is_refused_with_a_reason(tmp_path: Path) -> None:
    """Wrong bodies get 400 and a sentence that says what to send, and change nothing."""
    wrong: list[tuple[str, Any, str]] = [
        ("/mint", {"count": 0}, "count must be a whole number from 1 to 10000"),
        ("/mint", {"count": "7"}, "count must be"),
        ("/mint", {"count": True}, "count must be"),
        ("/mint", {}, "count must be"),
        ("/mint", [], "not an object"),
        ("/admin/workers", {"count": -1}, "from 0 to 64"),
        ("/admin/workers", {"count": 65}, "from 0 to 64"),
        ("/admin/workers", {"count": 2.0}, "from 0 to 64"),
        ("/admin/fault", {"workers": "tired"}, "none, slow, stuck, failing"),
        ("/admin/fault", {"weather": "bad"}, "weather is no fault"),
    ]
    async with running(tmp_path, *FAULTS) as service:
        for path, body, reason in wrong:
            assert reason in (await service.ask(path, body, status=400))["detail"]
        assert "not JSON" in (await service.ask("/mint", raw=b"{", status=400))["detail"]
        stats = await service.ask("/admin/queue/stats")
        assert (stats["waiting"], stats["completed"], stats["workers"]) == (0, 0, 2)
