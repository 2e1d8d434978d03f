"""The table of outages: what a service does, and does not do, while its PostgreSQL, its Redis or both are away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.fleet import Fleet, Replica, fleet
from tests.chaos.judgement import bugs, judge
from tests.crash.scene import VERIFY, body, firing, post, resolved, rule

RULES = [
    rule("keyed", "auto", [post("/keyed", keyed=True)], verify=VERIFY),
    # Due in the middle of the outage.
    {**rule("alone", "auto", [post("/alone", keyed=True)], verify=VERIFY), "when": {"alert": "alone", "for": "3s"}},
    rule("approved", "approve", [post("/approved", keyed=True)], verify=VERIFY),
]
_SLACK = 1.0
"""Seconds that a busy machine may add to what is promised."""


async def _deliver(replica: Replica, *alerts: dict[str, Any]) -> tuple[int, float]:
    """The status of a delivery, and the seconds until it came."""
    begun = time.monotonic()
    status, _ = await replica.ask("POST", "/api/v1/alertmanager", body(*alerts), seconds=30.0)
    return status, time.monotonic() - begun


async def _until(what: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Wait until ``what`` is true; how long that took. Raises TimeoutError after ``seconds``."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await what():
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def _held(replica: Replica) -> dict[str, Any]:
    """The one run that waits for an approval, whole."""
    status, page = await replica.ask("GET", "/api/v1/runs?state=held")
    runs = [run for run in page["items"] if run["reason"] == "approval"] if status == 200 else []
    if not runs:
        return {}
    status, whole = await replica.ask("GET", f"/api/v1/runs/{runs[0]['id']}")
    found: dict[str, Any] = whole if status == 200 else {}
    return found


async def _parts(replica: Replica) -> tuple[int, dict[str, Any]]:
    status, parts = await replica.ask("GET", "/-/ready?verbose", seconds=5.0)
    return status, parts or {}


async def _prepared(it: Fleet) -> dict[str, Any]:
    """Two replicas that work: an effect was seen, a question waits for an answer, and a run will be due soon."""
    it.configure(RULES)
    await it.start()
    first, second = it.replicas
    at = time.time()
    assert (await _deliver(first, firing("keyed", at, id="before")))[0] == 200
    assert (await _deliver(second, firing("approved", at, id="asked")))[0] == 200

    async def asked() -> bool:
        return bool(it.outside.effects) and bool(await _held(first))

    await _until(asked, 20)
    question = await _held(first)
    assert (await _deliver(second, firing("alone", time.time(), id="due")))[0] == 200
    return question


async def _store_is_away(it: Fleet, question: dict[str, Any]) -> None:
    """Everything that a replica promises for the time without its store."""
    seen = len(it.outside.effects)
    for replica in it.replicas:
        # Several at a time, as from a pair: none of them waits for another one's time-out.
        tries = [_deliver(replica, firing("keyed", time.time(), id=f"away-{number}")) for number in range(3)]
        for status, seconds in await asyncio.gather(*tries):
            assert status == 503
            assert seconds < 5.0 + _SLACK
        assert (await replica.ask("GET", "/-/healthy", seconds=1.0))[0] == 200
        status, text = await replica.ask("GET", "/metrics", seconds=1.0)
        assert (status, "remediator_build_info" in text) == (200, True)

        async def unready(replica: Replica = replica) -> bool:
            return (await _parts(replica))[0] == 503

        await _until(unready, 8)
        status, parts = await _parts(replica)
        assert (status, parts["ready"]) == (503, False)
        assert parts["store"].startswith(f"PostgreSQL at 127.0.0.1:{it.postgres.port}"), parts
        vote = {"digest": question["approval"]["digest"], "comment": "yes"}
        status, refused = await replica.ask("POST", f"/api/v1/runs/{question['id']}/approve", vote)
        assert (status, refused["status"]) == (503, 503)
    assert len(it.outside.effects) == seen, "nothing acts while nothing can be written down"


async def _store_is_back(it: Fleet, question: dict[str, Any], pids: list[int]) -> None:
    """Everything that a replica promises for the time after, without a restart of its own."""
    begun = time.monotonic()
    for replica in it.replicas:
        number = replica.number

        async def accepted(replica: Replica = replica, number: int = number) -> bool:
            return (await _deliver(replica, firing("keyed", time.time(), id=f"after-{number}")))[0] == 200

        async def ready(replica: Replica = replica) -> bool:
            return (await _parts(replica))[0] == 200

        await _until(accepted, 5)
        await _until(ready, 8)
    again = await _held(it.replicas[0])
    assert (again["id"], again["approval"]["digest"]) == (question["id"], question["approval"]["digest"])
    vote = {"digest": question["approval"]["digest"], "comment": "yes"}
    status, answer = await it.replicas[1].ask("POST", f"/api/v1/runs/{question['id']}/approve", vote)
    assert status == 200, answer
    done = it.outside.by_run

    async def acted() -> bool:
        paths = [path for counter in done.values() for path in counter]
        return sorted(paths) == ["/alone", "/approved", "/keyed", "/keyed", "/keyed"]

    # What was due, what was asked for, and what was told after: on both replicas, and once each.
    await _until(acted, 10)
    assert time.monotonic() - begun < 25
    assert [replica.server.pid for replica in it.replicas if replica.server] == pids


async def _in_the_end(it: Fleet) -> None:
    """The alerts resolve, every run ends well, and the record of all this verifies."""
    names = {"keyed": ["before", "after-0", "after-1"], "approved": ["asked"], "alone": ["due"]}
    ends = [resolved(name, time.time(), id=each) for name, ids in names.items() for each in ids]
    assert (await _deliver(it.replicas[0], *ends))[0] == 200

    async def over() -> bool:
        return not (await it.states()).keys() - {"succeeded"}

    await _until(over, 20)
    assert await it.stop() == [0, 0]
    assert not bugs(it)
    judged = await judge(it, problems=[each for ids in names.values() for each in ids])
    assert len(judged.runs) == 5


def _freeze(it: Fleet) -> None:
    it.postgres.freeze()


def _crash(it: Fleet) -> None:
    it.postgres.stop(signal.SIGQUIT)


def _both(it: Fleet) -> None:
    it.redis.freeze()
    it.postgres.stop(signal.SIGQUIT)


def _thaw(it: Fleet) -> None:
    it.postgres.thaw()


def _start(it: Fleet) -> None:
    it.postgres.start()


def _both_again(it: Fleet) -> None:
    it.redis.thaw()
    it.postgres.start()


@pytest.mark.parametrize(
    ("harm", "mend"),
    [(_freeze, _thaw), (_crash, _start), (_both, _both_again)],
    ids=["postgres-hangs", "postgres-is-down", "both-are-away"],
)
async def test_without_its_store_a_service_refuses_and_waits(
    tmp_path: Path, harm: Callable[[Fleet], None], mend: Callable[[Fleet], None]
) -> None:
    """503 within 5 s, nothing acts, alive and not ready and saying why; then it goes on, and nothing asked is lost."""
    async with fleet(tmp_path, replicas=2) as it:
        question = await _prepared(it)
        pids = [replica.server.pid for replica in it.replicas if replica.server]
        await asyncio.to_thread(harm, it)
        try:
            await _store_is_away(it, question)
        finally:
            await asyncio.to_thread(mend, it)
        await _store_is_back(it, question, pids)
        await _in_the_end(it)


async def test_without_its_redis_a_service_only_takes_longer(tmp_path: Path) -> None:
    """Redis hanging, dead, back and flushed: what either replica is told is accepted at once and acted on soon."""
    async with fleet(tmp_path, replicas=2) as it:
        it.configure(RULES)
        await it.start()
        redis, at = it.redis, time.time()
        harms = [redis.freeze, redis.thaw, redis.kill, redis.start, lambda: redis.tell("FLUSHALL")]
        for number, harm in enumerate(harms):
            await asyncio.to_thread(harm)
            for replica in it.replicas:
                seen = len(it.outside.effects)
                identity = f"{number}-{replica.number}"
                status, seconds = await _deliver(replica, firing("keyed", at, id=identity))
                assert (status, seconds < 1.0 + _SLACK) == (200, True)

                async def acted(seen: int = seen) -> bool:
                    return len(it.outside.effects) == seen + 1

                assert await _until(acted, 10) < 2.0 + _SLACK
                assert (await _parts(replica))[0] == 200
        ids = [f"{number}-{replica.number}" for number in range(len(harms)) for replica in it.replicas]
        assert (await _deliver(it.replicas[1], *(resolved("keyed", at, id=each) for each in ids)))[0] == 200

        async def over() -> bool:
            return not (await it.states()).keys() - {"succeeded"}

        await _until(over, 20)
        assert await it.stop() == [0, 0]
        assert len((await judge(it, problems=ids)).runs) == len(ids)
