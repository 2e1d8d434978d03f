"""Tests of the action redis.set_key, against a real server and a real cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Action, Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis.set_key import SetKey
from tests.integrations.corpus import PAYLOADS
from tests.integrations.redis.servers import PERMIT, one_cluster, one_server, target_of
from tests.integrations.support import acting


def _again(action: Action[Any] | None) -> Any:
    assert action is not None
    data = action.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return type(action).model_validate(json.loads(json.dumps(data)))


async def _do(action: Any, target: Any) -> Change:
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    await action.apply(target, change, acting())
    return change


async def test_set_and_back() -> None:
    """The value of before comes back, by what was stored, and a key that was not there goes again."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "primary")
    action = SetKey(key="feature:rpc", value="fallback")
    back = _again(action.inverse(await _do(action, target)))
    assert server.tell("GET", "feature:rpc") == "$8\r\nfallback\r\n"
    await _do(back, target)
    assert server.tell("GET", "feature:rpc") == "$7\r\nprimary\r\n"
    assert (await back.diff(target, acting())).empty
    server.tell("DEL", "feature:rpc")
    await _do(_again(action.inverse(await _do(action, target))), target)
    assert server.tell("EXISTS", "feature:rpc") == ":0\r\n"


async def test_what_expired_by_then_does_not_come_back_for_ever() -> None:
    """A key that was to expire keeps its instant when it is put back."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "primary", "PXAT", "4102444800000")
    action = SetKey(key="feature:rpc", value="fallback")
    await _do(_again(action.inverse(await _do(action, target))), target)
    assert server.tell("PEXPIRETIME", "feature:rpc") == ":4102444800000\r\n"


async def test_a_time_to_live_is_set() -> None:
    """With ttl the key is gone by itself."""
    server = one_server()
    await _do(SetKey.model_validate({"key": "feature:rpc", "value": "fallback", "ttl": "1m"}), target_of(server))
    assert 0 < int(server.tell("PTTL", "feature:rpc")[1:]) <= 60_000


async def test_nobody_is_overwritten() -> None:
    """What changed after the look is not overwritten, and what another one set later is not taken back."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "primary")
    action = SetKey(key="feature:rpc", value="fallback")
    change = await action.diff(target, acting())
    server.tell("SET", "feature:rpc", "somebody")
    with pytest.raises(TemporaryError) as conflict:
        await action.apply(target, change, acting())
    assert conflict.value.reason == "conflict"
    with pytest.raises(PermanentError) as changed:
        await _again(action.inverse(change)).diff(target, acting())
    assert changed.value.reason == "changed"
    server.tell("DEL", "feature:rpc")
    with pytest.raises(TemporaryError):
        await action.apply(target, change, acting())
    assert server.tell("EXISTS", "feature:rpc") == ":0\r\n"


@pytest.mark.parametrize(("now", "answer"), [("fallback", "yes"), ("primary", "no"), ("other", "unknown")])
async def test_a_crash_is_decided_by_looking(now: str, answer: str) -> None:
    """The value of after: it happened; of before: it did not; anything else is unknown."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "primary")
    action = SetKey(key="feature:rpc", value="fallback")
    change = await action.diff(target, acting())
    server.tell("SET", "feature:rpc", now)
    assert await action.reconcile(target, change, acting()) is Happened(answer)


async def test_only_keys_that_the_settings_name_exactly() -> None:
    """A wildcard that permits reading, or even writing, does not let a rule choose what it overwrites."""
    target = target_of(one_server(), permit={**PERMIT, "writable_keys": ["feature:*"]})
    with pytest.raises(PermanentError, match="letter by letter") as caught:
        await SetKey(key="feature:rpc", value="x").diff(target, acting())
    assert caught.value.reason == "permit"


async def test_what_could_not_be_put_back_is_left_alone() -> None:
    """Another type, bytes that are no text and very long values are refused."""
    server = one_server()
    target = target_of(server)
    server.tell("DEL", "feature:rpc")
    server.tell("RPUSH", "feature:rpc", "a")
    with pytest.raises(PermanentError, match="holds a list"):
        await SetKey(key="feature:rpc", value="x").diff(target, acting())
    server.tell("EVAL", "return redis.call('SET', KEYS[1], '\\255\\0')", "1", "feature:rpc")
    with pytest.raises(PermanentError, match="no text"):
        await SetKey(key="feature:rpc", value="x").diff(target, acting())
    server.tell("EVAL", "return redis.call('SET', KEYS[1], string.rep('x', 70000))", "1", "feature:rpc")
    with pytest.raises(PermanentError, match="64 KiB"):
        await SetKey(key="feature:rpc", value="x").diff(target, acting())
    server.tell("DEL", "feature:rpc")


async def test_in_a_cluster_the_node_that_has_the_key_is_told() -> None:
    """The key is set where the cluster keeps it."""
    cluster = one_cluster()
    await _do(SetKey(key="feature:rpc", value="fallback"), cluster.target())
    answers = {node.tell("GET", "feature:rpc")[:2] for node in cluster.nodes}
    assert answers == {"$8", "-M"}  # one has it, the others say MOVED


async def test_no_text_gets_past_a_key_or_a_value() -> None:
    """Every hostile text is refused, or it is exactly that key and exactly that value."""
    server = one_server()
    arrived = 0
    for payload in PAYLOADS:
        try:
            action = SetKey(key=payload, value=payload, only_if_absent=True)
        except ValidationError:
            continue
        server.tell("FLUSHDB")
        target = target_of(server, permit={**PERMIT, "writable_keys": [payload]})
        await _do(action, target)
        size = len(payload.encode())
        assert server.tell("GET", payload) == f"${size}\r\n{payload}\r\n"
        assert server.tell("DBSIZE") == ":1\r\n"
        arrived += 1
    assert arrived > 200
    server.tell("FLUSHDB")
