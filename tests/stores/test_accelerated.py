"""Proves that Redis beside a store changes nothing but how soon: well, gone, frozen, emptied, or full of lies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remediator.audit import Entry
from remediator.guard import Limit
from remediator.metrics import Metrics
from remediator.run import Lock, State
from remediator.store import Licence, Pause, Refusal
from remediator.stores._redis_limits import full
from remediator.stores.accelerated import AcceleratedStore
from remediator.stores.sqlite import SqliteStore
from tests.redis import RedisServer, redis_server
from tests.servers import free_port
from tests.stores.conformance.claims import Claims
from tests.stores.conformance.followups import Followups
from tests.stores.conformance.intake import Intake
from tests.stores.conformance.kit import T0, Bench, CountingIds, StoreClock, outcome, ref
from tests.stores.conformance.licences import Licences
from tests.stores.conformance.life import Life, every_verb
from tests.stores.conformance.money import Money
from tests.stores.conformance.people import People
from tests.stores.conformance.record import Record
from tests.stores.conformance.retention import Retention
from tests.stores.conformance.tally import Tallies

TIMEOUT = 0.1
HOURLY = Limit(guard="rate_limit", scope="global", runs=1, window=3600)


@pytest.fixture(scope="module")
def one_redis() -> Iterator[RedisServer]:
    """One server for this file; every test finds it running and empty."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(one_redis: RedisServer) -> Iterator[RedisServer]:
    """A running, empty server, whatever the test before did to it."""
    yield one_redis
    one_redis.thaw()
    with contextlib.suppress(OSError):
        one_redis.tell("FLUSHALL")
        return
    one_redis.start()


def accelerated(url: str, *, owner: str = "one", metrics: Metrics | None = None) -> Bench:
    """A bench whose store has the Redis at ``url`` beside it and is not open yet."""
    clock, ids = StoreClock(), CountingIds()
    store = SqliteStore(":memory:", clock=clock, ids=ids)
    metrics = metrics or Metrics()
    return Bench(AcceleratedStore(store, url, owner=owner, metrics=metrics, timeout=TIMEOUT), clock, ids)


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


def beside(bench: Bench) -> AcceleratedStore:
    """The store of a bench by its own type."""
    assert isinstance(bench.store, AcceleratedStore)
    return bench.store


async def well(bench: Bench) -> None:
    """Wait until Redis is there."""
    await until(lambda: beside(bench).health == "ok")


@asynccontextmanager
async def flushing(redis: RedisServer) -> AsyncIterator[None]:
    """Redis forgets everything again and again."""
    chance = random.Random(7)

    async def flush() -> None:
        while True:
            await asyncio.to_thread(redis.tell, "FLUSHALL")
            await asyncio.sleep(chance.random() * 0.01)

    task = asyncio.create_task(flush())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bench(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[Bench]:
    """A new store beside a Redis that is well, was never there, dies or hangs under it, or forgets at random."""
    gone = request.param == "gone"
    bench = accelerated(f"redis://127.0.0.1:{free_port()}" if gone else redis.url)
    await bench.store.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(bench.store.close)
        if not gone:
            await well(bench)
        if request.param == "killed":
            redis.kill()
        if request.param == "frozen":
            redis.freeze()
        if request.param == "flushed":
            await stack.enter_async_context(flushing(redis))
        yield bench


@pytest.mark.parametrize("bench", ["well"], indirect=True)
class TestWithRedis(Intake, Claims, Licences, Money, People, Followups, Record, Retention, Tallies, Life):
    """The one suite that every store must pass."""


@pytest.mark.parametrize("bench", ["gone", "killed", "frozen", "flushed"], indirect=True)
class TestWithoutRedis(Intake, Claims, Licences, People, Followups, Life):
    """The verbs that have to do with Redis, in every state of it."""


@pytest.fixture
async def quick(redis: RedisServer) -> AsyncIterator[Bench]:
    """A new store beside a Redis that is well."""
    bench = accelerated(redis.url)
    await bench.store.open()
    await well(bench)
    yield bench
    await bench.store.close()


async def _licensed(bench: Bench, name: str, limit: Limit = HOURLY) -> Licence | Refusal:
    claim = await bench.running(name)
    return await bench.store.licence(bench.request(claim, limits=[limit]))


async def _remembered(redis: RedisServer) -> None:
    """Wait until Redis knows of a licence."""
    await until(lambda: redis.tell("DBSIZE") != ":0\r\n")


# --- how long it may take --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [RedisServer.freeze, RedisServer.kill])
async def test_no_verb_waits_long_for_a_redis_that_is_no_use(
    quick: Bench, redis: RedisServer, harm: Callable[[RedisServer], None]
) -> None:
    """When Redis hangs or dies under load every verb still answers in well under a second."""
    claim = await quick.running()
    harm(redis)
    slowest = 0.0
    verbs = every_verb(quick, claim)
    verbs["licence"] = lambda: quick.store.licence(quick.request(claim, limits=[HOURLY]))
    for call in verbs.values():
        begun = time.monotonic()
        await outcome(call())
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 1.0


async def test_a_redis_that_hangs_is_waited_for_once(quick: Bench, redis: RedisServer) -> None:
    """Fifty licences during an outage pay the time-out at most once, not fifty times."""
    claims = [await quick.running(f"q{number}") for number in range(50)]
    redis.freeze()
    wide = Limit(guard="rate_limit", scope="global", runs=100, window=3600)
    begun = time.monotonic()
    for claim in claims:
        assert isinstance(await quick.store.licence(quick.request(claim, limits=[wide])), Licence)
    assert time.monotonic() - begun < 2 * TIMEOUT + 0.5


@pytest.mark.parametrize("harm", [RedisServer.freeze, RedisServer.kill, None])
async def test_opening_and_closing_never_wait_for_redis(
    redis: RedisServer, harm: Callable[[RedisServer], None] | None
) -> None:
    """A service starts and stops without Redis as fast as with it."""
    if harm is not None:
        harm(redis)
    bench = accelerated(redis.url)
    begun = time.monotonic()
    await bench.store.open()
    opened = time.monotonic() - begun
    await asyncio.sleep(TIMEOUT / 2)
    begun = time.monotonic()
    await bench.store.close()
    assert opened < 0.1
    assert time.monotonic() - begun < 0.5


# --- the pre-filter --------------------------------------------------------------------------------------------------


class Counting(SqliteStore):
    """The embedded store, which counts its licence transactions."""

    licences = 0

    async def licence(self, request: object) -> Licence | Refusal:
        self.licences += 1
        return await super().licence(request)  # type: ignore[arg-type]  # passed on as it came


async def test_a_limit_that_is_used_up_is_refused_without_the_licence_transaction(redis: RedisServer) -> None:
    """The pre-filter does what it is there for, and its no is word by word the one of the store."""
    clock, ids = StoreClock(), CountingIds()
    inner = Counting(":memory:", clock=clock, ids=ids)
    bench = Bench(AcceleratedStore(inner, redis.url, owner="one", metrics=Metrics(), timeout=1.0), clock, ids)
    await bench.store.open()
    await well(bench)
    assert isinstance(await _licensed(bench, "a"), Licence)
    await _remembered(redis)
    claim = await bench.running("b")
    request = bench.request(claim, limits=[HOURLY])
    before = inner.licences
    early = await bench.store.licence(request)
    assert inner.licences == before
    assert early == await inner.licence(request) == Refusal(
        "hold", "rate_limit", "1 runs of this global were licensed within 1h; at most 1 may be", T0 + 3600
    )
    await bench.store.close()


async def test_a_no_does_not_outlive_its_window(quick: Bench, redis: RedisServer) -> None:
    """When the store's window is over the next run is licensed, though Redis still remembers the first one."""
    assert isinstance(await _licensed(quick, "a"), Licence)
    await _remembered(redis)
    quick.clock.pass_(3599)
    refusal = await _licensed(quick, "b")
    assert isinstance(refusal, Refusal) and refusal.until == T0 + 3600
    quick.clock.pass_(1)
    assert isinstance(await _licensed(quick, "c"), Licence)


async def test_an_old_dump_of_redis_refuses_nothing(quick: Bench, redis: RedisServer) -> None:
    """Redis is put back to what it held an hour ago: runs that the ledger allows are licensed at once."""
    assert isinstance(await _licensed(quick, "a"), Licence)
    await _remembered(redis)
    redis.tell("SAVE")
    redis.kill()
    quick.clock.pass_(3600)
    redis.start()
    assert redis.tell("DBSIZE") == ":1\r\n"
    await well(quick)
    assert isinstance(await _licensed(quick, "b"), Licence)


async def test_a_flushed_redis_refuses_nothing(quick: Bench, redis: RedisServer) -> None:
    """After FLUSHALL the store alone decides, and decides the same."""
    assert isinstance(await _licensed(quick, "a"), Licence)
    await _remembered(redis)
    redis.tell("FLUSHALL")
    refusal = await _licensed(quick, "b")
    assert isinstance(refusal, Refusal) and refusal.until == T0 + 3600


async def test_tries_of_one_run_do_not_fill_a_limit(quick: Bench, redis: RedisServer) -> None:
    """Redis counts runs as the ledger does, so that it does not even suspect a run because of its own tries."""
    claim = await quick.running("a")
    request = quick.request(claim, limits=[HOURLY])
    assert isinstance(await quick.store.licence(request), Licence)
    await _remembered(redis)
    command = full("remediator", request)
    assert redis.tell(*map(str, command)) == ":0\r\n"
    other = quick.request(await quick.running("b"), limits=[HOURLY])
    assert redis.tell(*map(str, full("remediator", other))) == ":1\r\n"


@pytest.mark.parametrize("harm", ["flushed", "frozen", "killed", "lies", "wrong types"])
async def test_a_limit_is_exact_whatever_redis_does(quick: Bench, redis: RedisServer, harm: str) -> None:
    """640 tries of sixteen claimers at a limit of 40 give exactly 40, while Redis forgets, hangs, dies or lies."""
    limit = Limit(guard="rate_limit", scope="global", runs=40, window=3600)
    for number in range(640):
        await quick.fires(f"q{number}", ref(f"rule-{number}", Lock(f"t{number}", "", 1)))
    key = f"remediator:limit:global:{hashlib.sha256().hexdigest()[:32]}:3600000"
    if harm == "lies":
        for number in range(1000):
            redis.tell("ZADD", key, str(int((time.time() - 5) * 1000)), f"liar{number}")
        redis.tell("ZADD", key, "+inf", "for ever")
    if harm == "wrong types":
        redis.tell("SET", key, "not a set")
    licences: list[Licence] = []

    async def worker(name: str) -> None:
        while claims := await quick.claim(name, most=5):
            requests = [quick.request(claim, limits=[limit]) for claim in claims]
            answers = await asyncio.gather(*(outcome(quick.store.licence(request)) for request in requests))
            for claim, answer in zip(claims, answers, strict=True):
                if isinstance(answer, Licence):
                    licences.append(answer)
                    if len(licences) == 10 and harm in ("frozen", "killed"):
                        {"frozen": redis.freeze, "killed": redis.kill}[harm]()
                    await quick.concluded(answer)
                else:
                    assert isinstance(answer, Refusal) and answer.reason == "rate_limit", answer
                    await quick.moved(claim.run, State.DENIED)

    async with flushing(redis) if harm == "flushed" else contextlib.nullcontext():
        await asyncio.gather(*(worker(f"w{number}") for number in range(16)))
    assert len(licences) == 40
    assert (await quick.events()).count("effect.intent") == 40


# --- wake-ups and news -----------------------------------------------------------------------------------------------


@pytest.fixture
async def replicas(redis: RedisServer) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two processes' stores beside one Redis. Each has a store of its own: only what goes over Redis is shared."""
    pair = accelerated(redis.url, owner="one"), accelerated(redis.url, owner="two")
    for bench in pair:
        await bench.store.open()
        await well(bench)
    yield pair
    for bench in pair:
        await bench.store.close()


class Calls:
    """How often a callback was called, and the time from which on it is counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def _making_due(bench: Bench, waiting: str) -> dict[str, Callable[[], Awaitable[object]]]:
    pause = Pause("global", "test", "user:ann", T0, None)
    return {
        "delivery": lambda: bench.fires("new"),
        "end of an incident": lambda: bench.ends("waiting"),
        "pause": lambda: bench.store.pause(pause),
        "resume": lambda: bench.store.resume("global", "user:ann", ""),
        "vote": lambda: bench.store.vote(waiting, "what was shown", "user:ann", True, ""),
        "cancel": lambda: bench.store.cancel(waiting, "user:ann", ""),
    }


@pytest.mark.parametrize("what", ["delivery", "end of an incident", "pause", "resume", "vote", "cancel"])
async def test_what_makes_something_due_wakes_the_other_replicas(replicas: tuple[Bench, Bench], what: str) -> None:
    """A delivery or a person's word at one replica reaches the worker of another one within a tenth of a second."""
    here, there = replicas
    run = await here.asked(await here.running("waiting"))
    if what == "resume":
        await here.store.pause(Pause("global", "test", "user:ann", T0, None))
    await asyncio.sleep(0.05)
    own, other = Calls(), Calls()
    here.store.on_wake(own)
    there.store.on_wake(other)
    begun = time.monotonic()
    await _making_due(here, run.id)[what]()
    await until(lambda: other.count, 1.0)
    assert time.monotonic() - begun < 0.1
    assert own.count == 0, "who did it knows already"


async def test_every_commit_is_news_to_everybody(replicas: tuple[Bench, Bench]) -> None:
    """Whoever shows what happens hears of every commit, in this process at once and in another one soon."""
    here, there = replicas
    await asyncio.sleep(0.05)
    own, other = Calls(), Calls()
    beside(here).on_news(own)
    beside(there).on_news(other)
    claim = await here.running("a")
    assert own.count == 2
    await until(lambda: other.count, 1.0)
    before = own.count, other.count
    licence = await here.licensed(claim, limits=[HOURLY])
    await here.concluded(licence)
    await here.store.append(Entry(event="x", actor="x"))
    assert own.count == before[0] + 3
    await until(lambda: other.count > before[1], 1.0)


async def test_redis_is_told_nothing_about_anything(replicas: tuple[Bench, Bench], redis: RedisServer) -> None:
    """Neither labels nor names of rules and targets reach Redis: who reads it learns how much is done, not what."""
    here, _ = replicas
    before = int(redis.tell("INFO", "commandstats").count("cmdstat_publish"))
    assert isinstance(await _licensed(here, "secret-queue"), Licence)
    await _remembered(redis)
    assert before == 1
    shown = redis.tell("KEYS", "*") + redis.tell("SAVE")
    dump = next(redis.directory.glob("*.rdb")).read_bytes()
    for word in ("secret-queue", "rule-", "target of"):
        assert word not in shown
        assert word.encode() not in dump


async def test_strangers_on_the_channels_do_no_harm(replicas: tuple[Bench, Bench], redis: RedisServer) -> None:
    """Whatever somebody publishes is a reason to look and nothing more."""
    _, there = replicas
    calls = Calls()
    there.store.on_wake(calls)
    redis.tell("PUBLISH", "remediator:wake", "\x00{'run': 'rm -rf'}")
    await until(lambda: calls.count, 1.0)
    assert beside(there).health == "ok"
    assert await there.records() == []


# --- health ----------------------------------------------------------------------------------------------------------


def _figures(metrics: Metrics) -> tuple[float, float]:
    up = metrics.registry.get_sample_value("remediator_redis_up")
    errors = metrics.registry.get_sample_value("remediator_redis_errors_total")
    assert up is not None and errors is not None
    return up, errors


@pytest.mark.parametrize(
    ("harm", "heal"), [(RedisServer.freeze, RedisServer.thaw), (RedisServer.kill, RedisServer.start)]
)
async def test_health_says_what_is_wrong_and_heals_by_itself(
    redis: RedisServer, harm: Callable[[RedisServer], None], heal: Callable[[RedisServer], None]
) -> None:
    """An outage is told by health and metrics within seconds; afterwards wake-ups arrive again, without a restart."""
    metrics = Metrics()
    bench = accelerated(redis.url, metrics=metrics)
    assert beside(bench).health == "degraded: not connected"
    await bench.store.open()
    assert beside(bench).health == "degraded: not reached yet"
    await well(bench)
    assert _figures(metrics) == (1, 0)
    harm(redis)
    await until(lambda: beside(bench).health.startswith("degraded: ") and _figures(metrics)[0] == 0)
    assert _figures(metrics)[1] >= 1
    await asyncio.sleep(2.5)  # Long enough for the subscription to be found dead too.
    calls = Calls()
    bench.store.on_wake(calls)
    heal(redis)
    await until(lambda: beside(bench).health == "ok", 10.0)
    assert _figures(metrics)[0] == 1
    await until(lambda: calls.count, 10.0)
    await bench.store.close()


async def test_a_redis_that_refuses_commands_is_degraded(redis: RedisServer) -> None:
    """A server that answers but may not be written to is told as what it is, and the store decides alone."""
    redis.tell("CONFIG", "SET", "maxmemory", "1")
    bench = accelerated(redis.url)
    await bench.store.open()
    await well(bench)
    assert isinstance(await _licensed(bench, "a"), Licence)
    await until(lambda: beside(bench).health.startswith("degraded: refuses commands: "))
    assert isinstance(await _licensed(bench, "b"), Refusal)
    redis.tell("CONFIG", "SET", "maxmemory", "0")
    await bench.store.close()


async def test_the_password_is_read_from_its_file_for_every_connection(tmp_path: Path) -> None:
    """A rotated password is used without a restart, and the password never stands in what health says."""
    file = tmp_path / "password"
    file.write_text("wrong-one-entirely\n")
    with redis_server("--requirepass", "right-one-entirely") as server:
        clock, ids = StoreClock(), CountingIds()
        inner = SqliteStore(":memory:", clock=clock, ids=ids)
        store = AcceleratedStore(inner, server.url, owner="one", metrics=Metrics(), password_file=str(file))
        await store.open()
        await until(lambda: "reached yet" not in store.health)
        assert store.health.startswith("degraded: ") and "entirely" not in store.health
        file.write_text("right-one-entirely\n")
        await until(lambda: store.health == "ok", 10.0)
        await store.close()


async def test_the_documented_user_may_do_enough_and_no_more(redis: RedisServer, tmp_path: Path) -> None:
    """The line of docs/how-to/add-redis.md for a user of Redis is all that wake-ups, news and limits need."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "add-redis.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("user remediator ")]
    words = [">good-enough" if word == ">…" else word for word in line.split()[1:]]
    assert redis.tell("ACL", "SETUSER", *words) == "+OK\r\n"
    file = tmp_path / "password"
    file.write_text("good-enough")
    stores = []
    for owner in ("one", "two"):
        inner = SqliteStore(":memory:", clock=StoreClock(), ids=CountingIds())
        url = redis.url.replace("//", "//remediator@") + "/3"
        metrics = Metrics()
        stores.append(AcceleratedStore(inner, url, owner=owner, timeout=1, metrics=metrics, password_file=str(file)))
        await stores[-1].open()
    here, there = stores
    await until(lambda: here.health == there.health == "ok")
    calls = Calls()
    there.on_news(calls)
    bench = Bench(here, StoreClock(), CountingIds())
    assert isinstance(await _licensed(bench, "a"), Licence)
    assert isinstance(await _licensed(bench, "b"), Refusal)
    await until(lambda: calls.count)
    assert (here.health, there.health) == ("ok", "ok")
    for store in stores:
        await store.close()
    redis.tell("ACL", "DELUSER", "remediator")
