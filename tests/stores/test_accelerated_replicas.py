"""Proves that replicas on one PostgreSQL beside one Redis are exact whatever it does, and that all see everything."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from remediator.guard import Limit
from remediator.metrics import Metrics
from remediator.run import Lock, State
from remediator.store import Claim, Licence, Refusal
from remediator.stores.accelerated import AcceleratedStore
from remediator.web.live import Live, LiveEvent, Watcher
from tests.postgres import postgres
from tests.redis import RedisServer, redis_server
from tests.stores.conformance.kit import Bench, arrival, outcome, ref, sighting
from tests.stores.ground import Ground, ground

__all__ = ["ground", "postgres"]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of its own for each test, because they harm it."""
    with redis_server() as server:
        yield server


@pytest.fixture
async def replicas(ground: Ground, redis: RedisServer) -> AsyncIterator[list[Bench]]:
    """Four replicas, each with its own connections to both."""
    stores = []
    for number in range(4):
        stores.append(AcceleratedStore(ground.store(), redis.url, owner=f"r{number}", metrics=Metrics(), timeout=0.2))
        await stores[-1].open()
    async with asyncio.timeout(5):
        while any(store.health != "ok" for store in stores):
            await asyncio.sleep(0.01)
    yield [Bench(store, ground.clock, ground.bench(ground.stores[0]).ids) for store in stores]
    await asyncio.gather(*(store.close() for store in stores))


@contextlib.asynccontextmanager
async def _harmed(redis: RedisServer, how: str) -> AsyncIterator[None]:
    """Harm Redis again and again while the block runs."""
    task = asyncio.create_task(_harm(redis, how))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    redis.thaw()


async def _harm(redis: RedisServer, how: str) -> None:
    dice = random.Random(5)
    while how != "none":
        if how == "flushed":
            await asyncio.to_thread(redis.tell, "FLUSHALL")
        elif how == "frozen":
            redis.freeze()
            await asyncio.sleep(0.5)
            redis.thaw()
        else:
            redis.kill()
            await asyncio.sleep(dice.random() * 0.2)
            redis.start()  # Not in a thread, which could go on after the test and start what nobody ends.
        await asyncio.sleep(dice.random() * 0.05)


@pytest.mark.parametrize("harm", ["none", "flushed", "frozen", "killed"])
async def test_sixteen_claimers_on_four_replicas_are_exact(
    replicas: list[Bench], redis: RedisServer, harm: str
) -> None:
    """640 tries at a limit of 40 on four replicas give exactly 40, while Redis is flushed, frozen or killed."""
    limit = Limit(guard="rate_limit", scope="global", runs=40, window=3600)
    for first in range(0, 640, 160):
        one = [sighting(f"q{n}", rules=(ref(f"rule-{n}", Lock(f"t{n}", "", 1)),)) for n in range(first, first + 160)]
        await replicas[0].store.intake(arrival(*one))
    counts = {"licensed": 0, "refused": 0}

    async def carry(bench: Bench, claim: Claim) -> None:
        answer = await outcome(bench.store.licence(bench.request(claim, limits=[limit])))
        if isinstance(answer, Licence):
            counts["licensed"] += 1
            await bench.concluded(answer)
        else:
            assert isinstance(answer, Refusal) and answer.reason == "rate_limit", answer
            counts["refused"] += 1
            await bench.moved(claim.run, State.DENIED)

    async def worker(number: int) -> None:
        bench = replicas[number % 4]
        while claims := await bench.claim(f"w{number}", most=5):
            await asyncio.gather(*(carry(bench, claim) for claim in claims))

    async with _harmed(redis, harm):
        await asyncio.gather(*(worker(number) for number in range(16)))
    assert counts == {"licensed": 40, "refused": 600}
    assert (await replicas[1].events()).count("effect.intent") == 40
    assert (await replicas[2].verified()).ok


@pytest.mark.parametrize("harm", ["none", "frozen"])
async def test_whoever_watches_one_replica_sees_what_all_commit(
    replicas: list[Bench], redis: RedisServer, harm: str
) -> None:
    """With Redis soon, without it after the poll: every replica tells the same events in the same order."""
    lives = [Live(bench.store) for bench in replicas]
    for bench, live in zip(replicas, lives, strict=True):
        assert isinstance(bench.store, AcceleratedStore)
        bench.store.on_news(live.nudge)
    watchers = [await live.join() for live in lives]

    async def seen(watcher: Watcher) -> list[LiveEvent | None]:
        return [await watcher.next() for _ in range(12)]

    async with _harmed(redis, harm), asyncio.timeout(10):
        for number, bench in enumerate(replicas):
            await bench.running(f"q{number}")
        told = await asyncio.gather(*map(seen, watchers))
    assert told[0] == told[1] == told[2] == told[3]
    assert [event.kind for event in told[0] if event].count("delivery") == 4
    for live, watcher in zip(lives, watchers, strict=True):
        live.leave(watcher)
