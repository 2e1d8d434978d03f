"""Tests of the action webhook.post, against a real server on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.webhook.post import Post, signature
from remediator.integrations.webhook.target import WebhookTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.support import Wire, acting, reply, wire


async def _tell(it: Wire, parameters: dict[str, Any], **settings: Any) -> Outcome:
    action = Post.model_validate({"path": "/hooks/oncall", "json": {"a": 1}, **parameters})
    target = WebhookTarget.model_validate({"base_url": it.url, "timeout": "300ms", **settings})
    try:
        change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
        return await action.apply(target, change, acting())
    finally:
        await target.close()


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks specification gives the signature that stands there."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_the_body_is_signed_and_carries_its_id(tmp_path: Path) -> None:
    """A receiver can prove whom it is from, tell a copy by its id, and refuse an old one by its time."""
    (tmp_path / "secret").write_text("a plain secret\n")
    async with wire() as it:
        await _tell(it, {"json": {"name": "ü"}}, signing_secret_file=str(tmp_path / "secret"))
        await _tell(it, {})
    signed, bare = it.received
    assert signed.line == b"POST /hooks/oncall HTTP/1.1"
    assert signed.body == '{"name":"ü"}'.encode()
    text = f"{signed.headers['webhook-id']}.{signed.headers['webhook-timestamp']}.".encode() + signed.body
    expected = base64.b64encode(hmac.new(b"a plain secret", text, hashlib.sha256).digest()).decode()
    assert signed.headers["webhook-signature"] == f"v1,{expected}"
    assert signed.headers["webhook-id"] == bare.headers["webhook-id"] == "run-1.step0"
    assert "webhook-signature" not in bare.headers


async def test_a_secret_that_is_none_sends_nothing(tmp_path: Path) -> None:
    """An unsigned message would be refused by the receiver; it is said here instead."""
    (tmp_path / "secret").write_text("whsec_not base64!")
    async with wire() as it:
        with pytest.raises(PermanentError, match="base64"):
            await _tell(it, {}, signing_secret_file=str(tmp_path / "secret"))
    assert it.received == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(400), PermanentError),
        (reply(404), PermanentError),
        (reply(308), PermanentError),
        (reply(429), TemporaryError),
        (reply(503, extra="Retry-After: 5\r\n"), TemporaryError),
        (reply(503), Unanswered),
        (reply(500), Unanswered),
        (None, Unanswered),
        (Wire.HANG, Unanswered),
    ],
)
async def test_every_answer_has_its_meaning(answer: bytes | None, error: type[Exception]) -> None:
    """Refused, later, or unknown and then sent again with the same id."""
    async with wire(lambda request: answer) as it:
        with pytest.raises(error):
            await _tell(it, {})
    assert Post.effect is Effect.KEYED


async def test_no_text_gets_past_the_body() -> None:
    """Whatever a label holds arrives byte for byte as data of its field, or is refused."""
    sent = 0
    async with wire() as it:
        target = WebhookTarget(base_url=it.url)
        for payload in PAYLOADS:
            for parameters in ({"json": {"label": payload, payload: [payload]}}, {"path": payload, "json": 1}):
                it.received.clear()
                try:
                    action = Post.model_validate(parameters)
                except ValidationError:
                    continue
                await action.apply(target, await action.diff(target, acting()), acting())
                (request,) = it.received
                assert json.loads(request.body) == parameters["json"]
                assert request.line == f"POST {action.path} HTTP/1.1".encode()
                sent += 1
        await target.close()
    assert sent > 300


def test_a_body_has_its_limit() -> None:
    """What no receiver would take is refused before anything is sent."""
    with pytest.raises(ValidationError, match="bytes"):
        Post.model_validate({"json": "x" * 1_000_001})


async def test_another_body_than_the_shown_one_is_not_sent() -> None:
    """What was approved is what is sent, or nothing."""
    async with wire() as it:
        target = WebhookTarget(base_url=it.url)
        change = await Post.model_validate({"json": 1}).diff(target, acting())
        with pytest.raises(PermanentError, match="no longer"):
            await Post.model_validate({"json": 2}).apply(target, change, acting())
        await target.close()
    assert it.received == []
