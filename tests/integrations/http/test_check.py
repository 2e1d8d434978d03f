"""Tests of what requests have in common: seeing what they change, going on after a crash, and taking it back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Action, Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.http.delete import Delete
from remediator.integrations.http.post import Post
from remediator.integrations.http.put import Put
from remediator.integrations.http.target import HttpTarget
from tests.integrations.http.queue import CHECK, PERMIT, queue_service
from tests.integrations.support import acting, reply, wire

PAUSE = {"path": "/admin/queue/pause", "check": CHECK, "undo": {"path": "/admin/queue/resume"}}


def _stored(change: Change) -> Change:
    return Change.from_json(json.loads(json.dumps(change.as_json())))


def _again(action: Action[Any]) -> Any:
    """The action as another process reads it, days later."""
    return type(action).model_validate(
        json.loads(json.dumps(action.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    )


async def _do(action: Any, target: Any) -> Change:
    change = _stored(await action.diff(target, acting()))
    if not change.empty:
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
    return change


async def test_a_pause_carries_its_resume() -> None:
    """The inverse of a pause is the resume that the rule declared, by another process too, and it is seen to work."""
    async with queue_service() as queue:
        target = queue.target()
        pause = Post.model_validate(PAUSE)
        change = await _do(pause, target)
        assert queue.paused
        assert (change.before["seen"], change.after["seen"]) == ("false", "true")
        resume = _again(pause.inverse(change) or pause)
        assert resume.path == "/admin/queue/resume"
        await _do(resume, target)
        assert not queue.paused
        assert queue.sent == [b"POST /admin/queue/pause HTTP/1.1", b"POST /admin/queue/resume HTTP/1.1"]
        await target.close()


async def test_a_pause_whose_resume_is_not_permitted_is_not_made() -> None:
    """What could not be taken back when its lease ends is refused before it is done."""
    async with queue_service() as queue:
        target = queue.target(permit={**PERMIT, "paths": ["/admin/queue/pause", "/admin/queue/stats"]})
        with pytest.raises(PermanentError, match="way back") as caught:
            await Post.model_validate(PAUSE).diff(target, acting())
        assert caught.value.reason == "permit"
        assert queue.sent == []
        await target.close()


async def test_what_is_paused_already_is_left_alone_and_so_is_what_was_resumed() -> None:
    """Nothing is sent to get what is there: neither the pause of a paused queue nor the resume of a running one."""
    async with queue_service() as queue:
        target = queue.target()
        pause = Post.model_validate(PAUSE)
        change = await _do(pause, target)
        assert (await pause.diff(target, acting())).empty
        queue.paused = False
        assert (await _again(pause.inverse(change) or pause).diff(target, acting())).empty
        await target.close()


async def test_a_state_that_somebody_changed_is_not_overwritten() -> None:
    """The resume is refused when the queue shows neither what our pause left nor what was before it."""
    async with queue_service() as queue:
        target = queue.target()
        pause = Post.model_validate(PAUSE)
        resume = _again(pause.inverse(await _do(pause, target)) or pause)
        planned = _stored(await resume.diff(target, acting()))
        queue.paused = "by the owner"
        with pytest.raises(PermanentError, match="by the owner") as caught:
            await resume.diff(target, acting())
        assert caught.value.reason == "changed"
        with pytest.raises(PermanentError, match="by the owner"):
            await resume.apply(target, planned, acting())
        assert len(queue.sent) == 1
        await target.close()


async def test_without_a_check_the_resume_is_sent_whatever_happened() -> None:
    """A blind undo has no precondition; that is said on the page, and it is never empty."""
    async with queue_service() as queue:
        target = queue.target()
        pause = Post.model_validate({"path": "/admin/queue/pause", "undo": {"path": "/admin/queue/resume"}})
        change = await _do(pause, target)
        queue.paused = "by the owner"
        resume = _again(pause.inverse(change) or pause)
        assert resume.still is None
        await _do(resume, target)
        assert not queue.paused
        await target.close()


async def test_a_crash_is_decided_by_looking() -> None:
    """With a check the effect class is probe: seen, not seen, and something else are told apart."""
    async with queue_service() as queue:
        target = queue.target()
        pause = Post.model_validate(PAUSE)
        assert pause.effect_on(target) is Effect.PROBE
        change = _stored(await pause.diff(target, acting()))
        assert await pause.reconcile(target, change, acting()) is Happened.NO
        await pause.apply(target, change, acting())
        assert await pause.reconcile(target, change, acting()) is Happened.YES
        queue.paused = 3
        assert await pause.reconcile(target, change, acting()) is Happened.UNKNOWN
        await target.close()


async def test_a_service_that_only_says_so_is_not_believed() -> None:
    """A 200 that changed nothing is not done: verify goes on asking."""
    async with queue_service() as queue:
        queue.deaf = True
        target = queue.target()
        with pytest.raises(TemporaryError, match="not yet true") as caught:
            await _do(Post.model_validate(PAUSE), target)
        assert caught.value.reason == "not_yet"
        await target.close()


async def test_one_and_true_are_different_values() -> None:
    """A number is not taken for a truth value, as Python would."""
    async with queue_service() as queue:
        queue.paused = 1
        target = queue.target()
        assert not (await Post.model_validate(PAUSE).diff(target, acting())).empty
        await target.close()


async def test_a_document_comes_back_as_it_was() -> None:
    """A replaced document is put back by its declared undo, and a removed one is created again."""
    path = "/admin/doc/limits"
    async with queue_service() as queue:
        queue.documents[path] = {"rate": 10}
        target = queue.target()
        back = {"method": "put", "path": path, "json": {"rate": 10}}
        put = Put.model_validate(
            {
                "path": path,
                "json": {"rate": 5},
                "check": {"path": path, "json_path": '["rate"]', "equals": 5},
                "undo": back,
            }
        )
        change = await _do(put, target)
        await _do(_again(put.inverse(change) or put), target)
        assert queue.documents == {path: {"rate": 10}}
        delete = Delete.model_validate({"path": path, "check": {"path": path, "status": 404}, "undo": back})
        change = await _do(delete, target)
        assert queue.documents == {}
        await _do(_again(delete.inverse(change) or delete), target)
        assert queue.documents == {path: {"rate": 10}}
        await target.close()


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (500, b"{}", TemporaryError),
        (429, b"{}", TemporaryError),
        (404, b"{}", PermanentError),
        (301, b"{}", PermanentError),
        (200, b"<html>", TemporaryError),
    ],
)
async def test_a_check_that_cannot_be_read_stops_the_request(status: int, body: bytes, word: type[Exception]) -> None:
    """Without knowing the state nothing is sent: unknown is no."""
    async with wire(lambda request: reply(status, body)) as it:
        target = HttpTarget(base_url=it.url, permit=PERMIT)
        with pytest.raises(word):
            await Post.model_validate(PAUSE).diff(target, acting())
        await target.close()
        assert all(request.line.startswith(b"GET") for request in it.received)


async def test_a_value_that_is_too_long_is_not_compared() -> None:
    """What is kept with every change must stay small: a place that holds a whole document is refused."""
    async with queue_service() as queue:
        queue.paused = "x" * 5000
        target = queue.target()
        with pytest.raises(PermanentError, match="too long"):
            await Post.model_validate(PAUSE).diff(target, acting())
        await target.close()


async def test_a_check_needs_permission_to_look() -> None:
    """A check is a GET: without http.get on its path the request is refused."""
    async with queue_service() as queue:
        target = queue.target(permit={"actions": ["http.post"], "paths": ["/admin/*"]})
        with pytest.raises(PermanentError, match=r"http\.get"):
            await Post.model_validate({**PAUSE, "undo": None}).diff(target, acting())
        assert queue.it.received == []
        await target.close()


@pytest.mark.parametrize(
    "check",
    [
        {"path": "/x"},
        {"path": "/x", "json_path": "a"},
        {"path": "/x", "equals": 1},
        {"path": "/x", "json_path": "a", "equals": 1, "status": 200},
        {"path": "/x", "json_path": "a b", "equals": 1},
        {"path": "/x", "json_path": "a..b", "equals": 1},
        {"path": "/x", "json_path": "", "equals": 1},
        {"path": "x", "status": 404},
    ],
)
def test_a_check_says_one_thing(check: dict[str, Any]) -> None:
    """Half a check, two checks in one and wrong paths are refused when the rule is loaded."""
    with pytest.raises(ValidationError):
        Post.model_validate({"path": "/y", "check": check})
