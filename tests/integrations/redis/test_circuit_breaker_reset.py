"""Tests of the action redis.circuit_breaker_reset, against a real server."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import ValidationError

from remediator.action import Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis.circuit_breaker_reset import CircuitBreakerReset
from remediator.integrations.redis.target import RedisTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.redis.servers import one_server, target_of
from tests.integrations.support import acting
from tests.redis import RedisServer

RESET = CircuitBreakerReset(breaker="provider", id="alchemy")


@pytest.fixture
def server() -> RedisServer:
    """The shared server without any breaker."""
    found = one_server()
    found.tell("FLUSHALL")
    return found


def _breaker(server: RedisServer, state: str = "open", ago: float = 120, failures: str = "7") -> None:
    opened = str(time.time() - ago)
    server.tell("HSET", "breaker:alchemy", "state", state, "failures", failures, "opened_at", opened)


async def _do(action: CircuitBreakerReset, target: RedisTarget) -> CircuitBreakerReset:
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    await action.apply(target, change, acting())
    await action.verify(target, change, acting())
    stored = (action.inverse(change) or action).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return CircuitBreakerReset.model_validate(json.loads(json.dumps(stored)))


async def test_closed_and_back(server: RedisServer) -> None:
    """State and count are set; the fields of before come back, and only if nobody has touched them."""
    _breaker(server)
    target = target_of(server)
    back = await _do(RESET, target)
    assert "closed" in server.tell("HGET", "breaker:alchemy", "state")
    assert server.tell("HGET", "breaker:alchemy", "failures") == "$1\r\n0\r\n"
    server.tell("HSET", "breaker:alchemy", "failures", "1")
    with pytest.raises(PermanentError) as caught:
        await back.diff(target, acting())
    assert caught.value.reason == "changed"
    server.tell("HSET", "breaker:alchemy", "failures", "0")
    await _do(back, target)
    assert server.tell("HGET", "breaker:alchemy", "failures") == "$1\r\n7\r\n"
    assert (await back.diff(target, acting())).empty


async def test_t20_a_breaker_gets_the_time_to_half_open_by_itself(server: RedisServer) -> None:
    """Trap T20: before its time it is waited, a half-open one is left alone, and an unknown age is no."""
    target = target_of(server)
    _breaker(server, ago=10)
    with pytest.raises(TemporaryError, match="less than 1m ago") as early:
        await RESET.diff(target, acting())
    assert early.value.reason == "too_early"
    _breaker(server, state="half-open")
    with pytest.raises(PermanentError, match="half-open") as left:
        await RESET.diff(target, acting())
    assert left.value.reason == "not_open"
    for opened in ("", "yesterday", "nan"):
        _breaker(server)
        server.tell("HSET", "breaker:alchemy", "opened_at", opened)
        with pytest.raises((PermanentError, TemporaryError)):
            await RESET.diff(target, acting())
    server.tell("HSET", "breaker:alchemy", "opened_at", str(int(time.time() * 1000) - 120_000))
    assert not (await RESET.diff(target, acting())).empty


async def test_a_breaker_that_opens_again_is_a_failure(server: RedisServer) -> None:
    """When the cause is not gone, the step does not count as done."""
    _breaker(server)
    target = target_of(server)
    change = await RESET.diff(target, acting())
    await RESET.apply(target, change, acting())
    _breaker(server, ago=0)
    with pytest.raises(PermanentError, match="open again") as caught:
        await RESET.verify(target, change, acting())
    assert caught.value.reason == "open_again"


async def test_only_what_was_shown_is_changed(server: RedisServer) -> None:
    """A failure that comes between look and act keeps the breaker open."""
    _breaker(server)
    target = target_of(server)
    change = await RESET.diff(target, acting())
    server.tell("HSET", "breaker:alchemy", "failures", "8")
    with pytest.raises(TemporaryError, match="has changed"):
        await RESET.apply(target, change, acting())
    assert "open" in server.tell("HGET", "breaker:alchemy", "state")
    assert await RESET.reconcile(target, change, acting()) is Happened.UNKNOWN


async def test_what_is_not_there_or_closed(server: RedisServer) -> None:
    """No such breaker is an error, a closed one nothing to do, an unknown kind is named."""
    target = target_of(server)
    with pytest.raises(PermanentError, match="no breaker of alchemy"):
        await RESET.diff(target, acting())
    _breaker(server, state="closed", failures="0")
    assert (await RESET.diff(target, acting())).empty
    _breaker(server, failures="many")
    with pytest.raises(PermanentError, match="no count"):
        await RESET.diff(target, acting())
    with pytest.raises(PermanentError, match="it has provider"):
        await CircuitBreakerReset(breaker="other", id="x").diff(target, acting())


def test_no_text_gets_past_the_id() -> None:
    """Only one plain word can be what broke, so that it can only be that key."""
    taken = 0
    for payload in PAYLOADS:
        try:
            CircuitBreakerReset(breaker="provider", id=payload)
            taken += 1
            assert (
                payload.replace(".", "").replace("_", "").replace(":", "").replace("@", "").replace("-", "").isalnum()
            )
        except ValidationError:
            continue
    assert 0 < taken < 60


def test_a_way_back_is_whole() -> None:
    """Half a way back is refused, and so are other fields."""
    for wrong in ({"restore": {"state": "open"}}, {"restore": {"a": "b"}, "only_if": {"c": "d"}}):
        with pytest.raises(ValidationError, match="belong together"):
            CircuitBreakerReset.model_validate({"breaker": "provider", "id": "x", **wrong})
