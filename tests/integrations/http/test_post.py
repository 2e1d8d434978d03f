"""Tests of the action http.post, against a real server on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.http.post import Post
from remediator.integrations.http.target import HttpTarget
from tests.integrations.support import HandClock, Wire, acting, reply, wire
from tests.servers import free_port


def _post(**parameters: Any) -> Post:
    return Post.model_validate({"path": "/admin/workers", **parameters})


def _target(url: str, **settings: Any) -> HttpTarget:
    return HttpTarget.model_validate({"base_url": url, "timeout": "1s", **settings})


async def _act(action: Post, it: Wire, clock: HandClock | None = None, **settings: Any) -> Any:
    target = _target(it.url, **settings)
    try:
        change = Change.from_json((await action.diff(target, acting(clock))).as_json())
        return await action.apply(target, change, acting(clock))
    finally:
        await target.close()


async def test_the_request_is_the_one_that_was_shown() -> None:
    """Method, path, query and body go out exactly as in the change, with the key of the step."""
    action = _post(query={"dry": "no way", "q": "a&b"}, json={"count": 5, "name": "ü"})
    async with wire(lambda request: reply(body=b'{"workers": 5, "previous": 2}')) as it:
        target = _target(it.url)
        change = await action.diff(target, acting())
        assert it.received == []
        assert not change.empty
        assert change.after == {
            "method": "POST",
            "url": f"{it.url}/admin/workers",
            "query": {"dry": "no way", "q": "a&b"},
            "json": {"count": 5, "name": "ü"},
        }
        outcome = await action.apply(target, change, acting())
        await target.close()
    (request,) = it.received
    assert request.line == b"POST /admin/workers?dry=no%20way&q=a%26b HTTP/1.1"
    assert request.headers["idempotency-key"] == "run-1.step0"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["connection"] == "close"
    assert request.body == '{"count":5,"name":"ü"}'.encode()
    assert outcome.data["status"] == 200
    assert outcome.data["json"] == {"workers": 5, "previous": 2}


async def test_without_json_there_is_no_body() -> None:
    """A POST without json sends an empty body under its own idempotency header."""
    async with wire() as it:
        await _act(_post(), it, idempotency_header="X-Once")
    assert it.received[0].body == b""
    assert it.received[0].headers["x-once"] == "run-1.step0"


def test_the_effect_is_what_the_author_says() -> None:
    """Doing it again is never assumed: once, unless the rule says idempotent or keyed, and not both."""
    target = _target("http://127.0.0.1:1")
    assert _post().effect_on(target) is Effect.ONCE
    assert _post(idempotent=True).effect_on(target) is Effect.IDEMPOTENT
    assert _post(keyed=True).effect_on(target) is Effect.KEYED
    with pytest.raises(ValidationError, match="not both"):
        _post(idempotent=True, keyed=True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 301, 307, 308])
async def test_a_refusal_is_permanent(status: int) -> None:
    """The service refused or moved: it did not happen and is not tried again."""
    async with wire(lambda request: reply(status)) as it:
        with pytest.raises(PermanentError, match=f"answered {status}"):
            await _act(_post(), it)


@pytest.mark.parametrize(("status", "extra"), [(429, ""), (408, ""), (503, "Retry-After: 3\r\n")])
async def test_a_refusal_for_now_is_temporary(status: int, extra: str) -> None:
    """The service said that it did nothing and may be asked later."""
    async with wire(lambda request: reply(status, extra=extra)) as it:
        with pytest.raises(TemporaryError) as caught:
            await _act(_post(), it)
    assert caught.value.reason == f"status_{status}"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 302, 303])
async def test_a_status_that_says_nothing_is_unknown(status: int) -> None:
    """A server error or a redirect after the fact does not say whether it happened, so neither word is used."""
    async with wire(lambda request: reply(status)) as it:
        with pytest.raises(Unanswered, match="does not say"):
            await _act(_post(), it)


@pytest.mark.parametrize("answer", [Wire.HANG, None, b"garbage\r\n\r\n"])
async def test_no_answer_is_unknown(answer: bytes | None) -> None:
    """The request left and no status came: whether it happened is unknown, and it is sent only once."""
    async with wire(lambda request: answer) as it:
        with pytest.raises(Unanswered, match="was sent"):
            await asyncio.wait_for(_act(_post(), it, timeout="100ms"), 5)
    assert len(it.received) == 1


async def test_a_body_that_breaks_off_after_a_good_status_is_done() -> None:
    """The status is the word of the service; a torn body does not take it back."""
    async with wire(lambda request: b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nhalf") as it:
        outcome = await _act(_post(), it)
    assert outcome.data["status"] == 200
    assert outcome.data["truncated"]


async def test_a_refused_connection_did_not_happen() -> None:
    """No connection means that not a byte left."""
    target = _target(f"http://127.0.0.1:{free_port()}")
    change = await _post().diff(target, acting())
    with pytest.raises(TemporaryError, match="nothing was sent") as caught:
        await _post().apply(target, change, acting())
    assert caught.value.reason == "connect"
    await target.close()


async def test_expect_decides_what_done_means() -> None:
    """Listed statuses are done; an unlisted success is unknown, because something may have happened."""
    async with wire(lambda request: reply(409)) as it:
        assert (await _act(_post(expect=[200, 409]), it)).data["status"] == 409
    async with wire(lambda request: reply(202)) as it:
        with pytest.raises(Unanswered):
            await _act(_post(expect=[200]), it)
    with pytest.raises(ValidationError, match="from 200 to 499"):
        _post(expect=[500])


async def test_nothing_leaves_after_the_licence_ran_out() -> None:
    """The deadline is asked when the connection stands, right before the first byte."""
    clock = HandClock()
    asked: list[float] = []
    async with wire() as it:
        target = _target(it.url)
        context = acting(clock)
        change = await _post().diff(target, context)
        clock.at = context.deadline + 0.001
        asked.append(clock.at)
        with pytest.raises(TemporaryError) as caught:
            await _post().apply(target, change, context)
        await target.close()
        await asyncio.sleep(0)
    assert caught.value.reason == "licence_expired"
    assert it.received == []


async def test_a_licence_that_runs_out_while_connecting_sends_nothing() -> None:
    """Also when the time passes during the connection itself, no byte of the request leaves."""

    class Slow(HandClock):
        """Runs out of time with the first question after the connection stands."""

        def monotonic(self) -> float:
            """An hour later at every question."""
            self.at += 3600
            return self.at

    clock = Slow()
    async with wire() as it:
        target = _target(it.url)
        change = await _post().diff(target, acting())
        with pytest.raises(TemporaryError, match="ran out"):
            await _post().apply(target, change, acting(clock))
        await target.close()
    assert it.received == []


async def test_another_request_than_the_approved_one_is_refused() -> None:
    """If the parameters or the address changed since the change was shown, nothing is sent."""
    async with wire() as it:
        target = _target(it.url)
        change = await _post(json={"count": 5}).diff(target, acting())
        with pytest.raises(PermanentError, match="no longer"):
            await _post(json={"count": 50}).apply(target, change, acting())
        await target.close()
    assert it.received == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"a": ["\ud800"]}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    """A body that cannot be written as JSON of UTF-8 is refused when the rule is loaded."""
    with pytest.raises(ValidationError, match=r"valid JSON|valid unicode|surrogate"):
        _post(json=value)


async def test_a_post_can_neither_be_taken_back_nor_reconciled() -> None:
    """Without a way to look, the answer after a crash is unknown, and there is no inverse."""
    target = _target("http://127.0.0.1:1")
    change = await _post().diff(target, acting())
    assert _post().inverse(change) is None
    assert await _post().reconcile(target, change, acting()) is Happened.UNKNOWN
