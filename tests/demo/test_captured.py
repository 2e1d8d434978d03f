"""The stand-in for Prometheus and Alertmanager: what it sends, when, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from remediator.clock import parse_instant
from remediator.demo.captured import FOR, Captured, body


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        """Unix seconds."""
        return self.at

    def monotonic(self) -> float:
        """The same seconds."""
        return self.at


class World:
    """A minting service's metrics and a webhook, both over HTTP: a depth to set and deliveries to read."""

    def __init__(self) -> None:
        self.depth = 0
        self.status = 200
        self.deliveries: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []

    async def metrics(self, request: web.Request) -> web.Response:
        """The queue's depth in the text format."""
        return web.Response(text=f'minting_queue_depth{{state="waiting"}} {self.depth}\n')

    async def webhook(self, request: web.Request) -> web.Response:
        """Keeps what is delivered."""
        self.deliveries.append(await request.json())
        self.tokens.append(request.headers.get("Authorization"))
        return web.json_response({}, status=self.status)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[World, HandClock, Captured, Any]]:
    """A world, a clock, the stand-in between them, and a way to let it look once."""
    world, clock = World(), HandClock()
    app = web.Application()
    app.add_routes([web.get("/metrics", world.metrics), web.post("/webhook", world.webhook)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    url = f"http://127.0.0.1:{port}"
    captured = Captured(metrics=url + "/metrics", webhook=url + "/webhook", token="t0ken", clock=clock)
    async with aiohttp.ClientSession() as session:
        yield world, clock, captured, lambda: captured.look(session)
    await runner.cleanup()


async def test_a_deep_queue_fires_after_its_time_and_resolves_once_it_has_drained() -> None:
    """The body is sent once the queue has been deep for as long as the alert waits, and its end once it is not."""
    async with watched() as (world, clock, captured, look):
        await look()
        assert captured.state == "inactive"
        world.depth = 1001
        await look()
        assert (captured.state, world.deliveries) == ("pending", [])
        clock.at += FOR
        await look()
        await look()
        assert captured.state == "firing"
        clock.at += 20
        world.depth = 1000
        await look()
        await look()
        assert captured.state == "inactive"
    firing, resolved = world.deliveries
    assert [firing["status"], resolved["status"]] == ["firing", "resolved"]
    assert world.tokens == ["Bearer t0ken"] * 2
    began = [parse_instant(delivery["alerts"][0]["startsAt"]) for delivery in world.deliveries]
    assert began == [clock.at - 20] * 2, "firing and resolved must be one life of one problem"
    assert parse_instant(resolved["alerts"][0]["endsAt"]) == clock.at
    assert firing["alerts"][0]["fingerprint"] == resolved["alerts"][0]["fingerprint"]


async def test_a_short_peak_sends_nothing() -> None:
    """A queue that drains before the alert's time has passed never fires."""
    async with watched() as (world, clock, captured, look):
        world.depth = 5000
        await look()
        world.depth = 10
        clock.at += FOR
        await look()
        assert (captured.state, world.deliveries) == ("inactive", [])


@pytest.mark.parametrize("status", [503, 401])
async def test_a_refused_delivery_is_tried_again(status: int) -> None:
    """What is not accepted is offered again at the next look, firing as well as resolved."""
    async with watched() as (world, clock, captured, look):
        world.depth, world.status = 5000, status
        await look()
        clock.at += FOR
        await look()
        assert captured.state == "pending"
        world.status = 200
        await look()
        assert captured.state == "firing"
        world.depth, world.status = 0, status
        await look()
        assert captured.state == "firing"
        world.status = 200
        await look()
        assert captured.state == "inactive"
    assert [delivery["status"] for delivery in world.deliveries] == ["firing", "firing", "resolved", "resolved"]


def test_the_captured_bodies_are_what_alertmanager_sent() -> None:
    """But for its times, a body is as captured: version 4, one alert in production, nothing truncated."""
    delivery = body("firing", 1_800_000_000.0, None)
    assert (delivery["version"], delivery["truncatedAlerts"]) == ("4", 0)
    [alert] = delivery["alerts"]
    assert alert["labels"]["alertname"] == "HighQueueDepth"
    assert alert["labels"]["namespace"] == "production"
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
