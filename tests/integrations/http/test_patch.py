"""Tests of the action http.patch, against a real server on loopback; what all requests share is in test_check.py."""

from __future__ import annotations

import pytest

from remediator.action import Effect
from remediator.errors import PermanentError
from remediator.integrations._client import Unanswered
from remediator.integrations.http.patch import Patch
from remediator.integrations.http.target import HttpTarget
from tests.integrations.support import acting, reply, wire


async def test_the_request_is_the_one_that_was_shown() -> None:
    """Method, path, query and body go out exactly as in the change, with the key of the step."""
    action = Patch.model_validate({"path": "/admin/limits", "query": {"q": "a&b"}, "json": {"rate": 5}})
    async with wire() as it:
        target = HttpTarget(base_url=it.url)
        change = await action.diff(target, acting())
        assert change.after["method"] == "PATCH"
        await action.apply(target, change, acting())
        await target.close()
    (request,) = it.received
    assert request.line == b"PATCH /admin/limits?q=a%26b HTTP/1.1"
    assert request.headers["idempotency-key"] == "run-1.step0"
    assert request.body == b'{"rate":5}'


def test_the_effect_is_that_of_the_method() -> None:
    """What RFC 9110 and RFC 5789 say of PATCH holds unless the rule says otherwise."""
    target = HttpTarget(base_url="http://127.0.0.1:1")
    assert Patch(path="/x").effect_on(target) is Effect.ONCE
    assert Patch(path="/x", idempotent=True).effect_on(target) is Effect.IDEMPOTENT


@pytest.mark.parametrize(("status", "word"), [(404, PermanentError), (412, PermanentError), (500, Unanswered)])
async def test_a_failure_says_whether_it_happened(status: int, word: type[Exception]) -> None:
    """A refusal certainly did nothing; a server error may have."""
    async with wire(lambda request: reply(status)) as it:
        target = HttpTarget(base_url=it.url)
        action = Patch(path="/x")
        with pytest.raises(word, match=f"PATCH /x answered {status}"):
            await action.apply(target, await action.diff(target, acting()), acting())
        await target.close()
    assert len(it.received) == 1
