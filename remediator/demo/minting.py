"""The demonstration's minting service: the HTTP face of a small real queue, as the minting runbook knows it.

Run it as its own process: ``python -m remediator.demo.minting --listen 127.0.0.1:3000 --data-dir DIR``.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import click
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from remediator.clock import SystemClock
from remediator.demo.mintqueue import MAX_WORKERS, STATES, Fault, MintQueue, Workers

WALLET = "minting"
MAX_ENQUEUE = 10_000
LAG_EVERY = 0.25
"""Seconds between two measurements of the event loop's lag."""


class Minting:
    """The service: one queue, one pool of workers, one wallet, and what is wrong with its surroundings."""

    def __init__(self, queue: MintQueue, workers: Workers, *, stale_after: float) -> None:
        self.queue = queue
        self.workers = workers
        self.stale_after = stale_after
        self.lag_ms = 0.0
        self.open_breakers = 0
        self.ipfs_up = True

    def queue_component(self) -> dict[str, Any]:
        """The queue as ``/health/detailed`` and ``/admin/queue/stats`` show it."""
        return {
            **self.queue.counts,
            "paused": self.workers.paused,
            "workers": self.workers.count,
            "oldestWaitingSeconds": round(self.queue.oldest_waiting_seconds(), 3),
        }

    def status(self) -> str:
        """``ok``, or ``degraded`` when something it depends on, or a worker, is in trouble."""
        well = self.ipfs_up and not self.open_breakers and not self.queue.stale(self.stale_after)
        return "ok" if well else "degraded"

    async def measure_lag(self) -> None:
        """Measure for ever how late the event loop wakes a sleeper."""
        loop = asyncio.get_running_loop()
        while True:
            start = loop.time()
            await asyncio.sleep(LAG_EVERY)
            self.lag_ms = max(0.0, (loop.time() - start - LAG_EVERY) * 1000)


class MintingMetrics(Collector):
    """Reads the service's own state whenever it is scraped, so that no gauge can be out of date."""

    def __init__(self, minting: Minting) -> None:
        self._minting = minting

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """The metric families that the alert rules of the minting service read."""
        minting = self._minting
        depth = GaugeMetricFamily("minting_queue_depth", "Mints by state.", labels=["state"])
        for state in STATES:
            depth.add_metric([state], minting.queue.counts[state])
        yield depth
        balance = GaugeMetricFamily("minting_wallet_balance_sol", "Balance of a wallet.", labels=["wallet"])
        balance.add_metric([WALLET], minting.workers.balance)
        yield balance
        attempts, errors = minting.workers.attempts, minting.workers.errors
        yield CounterMetricFamily("minting_requests", "Mints attempted.", value=attempts)
        yield CounterMetricFamily("minting_errors", "Mints that failed.", value=errors)
        lag = minting.lag_ms
        yield GaugeMetricFamily("minting_event_loop_lag_ms", "How late the event loop is.", value=lag)
        yield GaugeMetricFamily("minting_workers", "Workers in the pool.", value=minting.workers.count)


def refuse(status: int, detail: str) -> web.Response:
    """A problem document (RFC 9457) that says what to send instead."""
    body = {"type": "about:blank", "title": "refused", "status": status, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")


class Refused(Exception):
    """A request that cannot be carried out; the message says what to send instead."""


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise Refused("the body is not JSON; send an object") from None
    if not isinstance(body, dict):
        raise Refused("the body is not an object")
    return body


def _integer(body: dict[str, Any], name: str, low: int, high: int) -> int:
    value = body.get(name)
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} must be a whole number from {low} to {high}")
    return value


class Api:
    """The routes, one method each."""

    def __init__(self, minting: Minting) -> None:
        self._minting = minting
        self._registry = CollectorRegistry()
        self._registry.register(MintingMetrics(minting))

    def routes(self, *, faults: bool) -> list[web.RouteDef]:
        """Every route; the one that causes trouble only where it is allowed."""
        routes = [
            web.post("/mint", self.mint),
            web.get("/health", self.health),
            web.get("/health/detailed", self.health_detailed),
            web.get("/health/solana", self.health_solana),
            web.get("/metrics", self.metrics),
            web.get("/admin/queue/stats", self.stats),
            web.get("/admin/queue/stale", self.stale),
            web.post("/admin/queue/pause", self.pause),
            web.post("/admin/queue/resume", self.resume),
            web.post("/admin/queue/retry-stale", self.retry_stale),
            web.post("/admin/workers", self.resize),
        ]
        return [*routes, web.post("/admin/fault", self.fault)] if faults else routes

    async def mint(self, request: web.Request) -> web.Response:
        """``{"count": n}`` puts n mints into the queue."""
        count = _integer(await _body(request), "count", 1, MAX_ENQUEUE)
        self._minting.queue.add(count)
        self._minting.workers.wake()
        answer = {"accepted": count, "waiting": self._minting.queue.counts["waiting"]}
        return web.json_response(answer, status=202)

    async def health(self, request: web.Request) -> web.Response:
        """One word."""
        return web.json_response({"status": self._minting.status()})

    async def health_detailed(self, request: web.Request) -> web.Response:
        """One word, and the components it is made of."""
        minting = self._minting
        components = {
            "queue": minting.queue_component(),
            "circuitBreakers": {"open": minting.open_breakers},
            "ipfs": {"status": "ok" if minting.ipfs_up else "down"},
        }
        return web.json_response({"status": minting.status(), "components": components})

    async def health_solana(self, request: web.Request) -> web.Response:
        """The wallet that pays for mints."""
        wallet = {"name": WALLET, "balance": self._minting.workers.balance}
        return web.json_response({"status": "ok", "wallet": wallet})

    async def metrics(self, request: web.Request) -> web.Response:
        """The text format of Prometheus."""
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": "text/plain"})

    async def stats(self, request: web.Request) -> web.Response:
        """The queue in numbers."""
        return web.json_response(self._minting.queue_component())

    async def stale(self, request: web.Request) -> web.Response:
        """Mints that have been active for too long."""
        items = self._minting.queue.stale(self._minting.stale_after)
        return web.json_response({"count": len(items), "items": items})

    async def pause(self, request: web.Request) -> web.Response:
        """Take no further mints."""
        self._minting.workers.pause(True)
        return web.json_response({"paused": True})

    async def resume(self, request: web.Request) -> web.Response:
        """Take mints again."""
        self._minting.workers.pause(False)
        return web.json_response({"paused": False})

    async def retry_stale(self, request: web.Request) -> web.Response:
        """Let stale mints wait again."""
        retried = self._minting.queue.retry_stale(self._minting.stale_after)
        self._minting.workers.wake()
        return web.json_response({"retried": retried})

    async def resize(self, request: web.Request) -> web.Response:
        """``{"count": n}`` runs n workers: a number and not a difference, so asking twice is harmless."""
        count = _integer(await _body(request), "count", 0, MAX_WORKERS)
        previous = self._minting.workers.resize(count)
        return web.json_response({"workers": count, "previous": previous})

    async def fault(self, request: web.Request) -> web.Response:
        """Cause trouble: any of ``workers``, ``open_breakers``, ``ipfs_up``, ``balance``."""
        body = await _body(request)
        unknown = body.keys() - {"workers", "open_breakers", "ipfs_up", "balance"}
        if unknown:
            raise Refused(f"{sorted(unknown)[0]} is no fault; choose workers, open_breakers, ipfs_up or balance")
        if "workers" in body:
            if body["workers"] not in list(Fault):
                raise Refused(f"workers must be one of {', '.join(Fault)}")
            self._minting.workers.set_fault(Fault(body["workers"]))
        if "open_breakers" in body:
            self._minting.open_breakers = _integer(body, "open_breakers", 0, 100)
        if "ipfs_up" in body:
            self._minting.ipfs_up = bool(body["ipfs_up"])
        if "balance" in body:
            self._minting.workers.set_balance(float(_integer(body, "balance", 0, 1000)))
        return web.json_response({"fault": self._minting.workers.fault})


def _gate(token: bytes | None) -> Middleware:
    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Asks for the token on ``/admin/*`` and turns refusals into answers. No token means nobody."""
        if request.path.startswith("/admin/"):
            given = request.headers.get("Authorization", "").encode()
            if token is None or not hmac.compare_digest(given, b"Bearer " + token):
                answer = refuse(401, "send the admin token as Authorization: Bearer …")
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
        try:
            return await handler(request)
        except Refused as error:
            return refuse(400, str(error))

    return gate


def make_app(
    data_dir: Path,
    *,
    token: bytes | None = None,
    faults: bool = False,
    seconds: float = 0.05,
    workers: int = 2,
    stale_after: float = 5.0,
) -> web.Application:
    """The service as an application: it opens the queue in ``data_dir`` when it starts."""

    async def running(app: web.Application) -> AsyncIterator[None]:
        measuring = asyncio.create_task(minting.measure_lag())
        minting.workers.start()
        yield
        measuring.cancel()
        await minting.workers.close()
        minting.queue.close()

    queue = MintQueue(data_dir / "mints.db", SystemClock())
    pool = Workers(queue, seconds=seconds, count=workers, balance=25.0)
    minting = Minting(queue, pool, stale_after=stale_after)
    app = web.Application(middlewares=[_gate(token)], client_max_size=64 * 1024)
    app.add_routes(Api(minting).routes(faults=faults))
    app.cleanup_ctx.append(running)
    return app


@click.command()
@click.option("--listen", default="127.0.0.1:3000", show_default=True, help="HOST:PORT to listen on.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--token-file", type=click.Path(path_type=Path, exists=True), help="Opens /admin to its bearer.")
@click.option("--allow-faults", is_flag=True, help="Offer POST /admin/fault.")
@click.option("--seconds-per-mint", type=click.FloatRange(0.001, 60), default=0.05, show_default=True)
@click.option("--workers", type=click.IntRange(0, MAX_WORKERS), default=2, show_default=True)
@click.option("--stale-after", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="Seconds.")
def main(
    listen: str,
    data_dir: Path,
    token_file: Path | None,
    allow_faults: bool,
    seconds_per_mint: float,
    workers: int,
    stale_after: float,
) -> None:
    """Run the minting service until SIGTERM."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise click.UsageError("--listen wants HOST:PORT, like 127.0.0.1:3000")
    token = token_file.read_bytes().strip() if token_file else None
    if token == b"":
        raise click.UsageError(f"{token_file} is empty; write a token into it")
    data_dir.mkdir(parents=True, exist_ok=True)

    async def build() -> web.Application:
        return make_app(
            data_dir,
            token=token,
            faults=allow_faults,
            seconds=seconds_per_mint,
            workers=workers,
            stale_after=stale_after,
        )

    click.echo(f"minting service on http://{listen}")
    web.run_app(build(), host=host, port=int(port), print=None, access_log=None, shutdown_timeout=2.0)


if __name__ == "__main__":
    main()
