"""Tests of the action redis.delete_key, against a real server."""

from __future__ import annotations

import json

import pytest

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.redis.delete_key import DeleteKey
from remediator.integrations.redis.set_key import SetKey
from tests.integrations.redis.servers import PERMIT, one_server, target_of
from tests.integrations.support import acting


async def test_delete_and_back() -> None:
    """What is deleted is kept with the change and comes back, only where nothing has come in the meantime."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "ä b")
    action = DeleteKey(key="feature:rpc")
    change = await action.diff(target, acting())
    await action.apply(target, change, acting())
    assert server.tell("EXISTS", "feature:rpc") == ":0\r\n"
    inverse = action.inverse(change)
    assert inverse is not None
    stored = inverse.model_dump(mode="json", by_alias=True, exclude_unset=True)
    back = SetKey.model_validate(json.loads(json.dumps(stored)))
    server.tell("SET", "feature:rpc", "somebody")
    with pytest.raises(PermanentError) as caught:
        await back.diff(target, acting())
    assert caught.value.reason == "changed"
    server.tell("DEL", "feature:rpc")
    await back.apply(target, await back.diff(target, acting()), acting())
    assert server.tell("GET", "feature:rpc") == "$4\r\nä b\r\n".encode().decode()


async def test_a_key_that_changed_is_kept() -> None:
    """Only what was shown is deleted."""
    server = one_server()
    target = target_of(server)
    server.tell("SET", "feature:rpc", "primary")
    action = DeleteKey(key="feature:rpc")
    change = await action.diff(target, acting())
    server.tell("SET", "feature:rpc", "somebody")
    with pytest.raises(TemporaryError, match="has changed"):
        await action.apply(target, change, acting())
    with pytest.raises(PermanentError, match="made for"):
        await DeleteKey(key="feature:rpc", only_if="primary").diff(target, acting())
    assert await action.reconcile(target, change, acting()) is Happened.UNKNOWN
    assert server.tell("GET", "feature:rpc") == "$8\r\nsomebody\r\n"


async def test_what_is_not_there_is_nothing_to_do() -> None:
    """A key that is gone is not deleted again."""
    server = one_server()
    server.tell("DEL", "feature:rpc")
    change = await DeleteKey(key="feature:rpc").diff(target_of(server), acting())
    assert change.empty
    assert DeleteKey(key="feature:rpc").inverse(change) is None


async def test_lists_and_unlisted_keys_are_refused() -> None:
    """A list of jobs is never deleted, and a wildcard permits no deletion."""
    server = one_server()
    server.tell("DEL", "jobs")
    server.tell("RPUSH", "jobs", "a")
    with pytest.raises(PermanentError, match="holds a list"):
        await DeleteKey(key="jobs").diff(target_of(server), acting())
    with pytest.raises(PermanentError, match="letter by letter"):
        await DeleteKey(key="jobs").diff(target_of(server, permit={**PERMIT, "writable_keys": ["*"]}), acting())
