"""Tests of the action pagerduty.trigger, against a stand-in that answers as PagerDuty documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Change, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.pagerduty.target import PagerdutyTarget
from remediator.integrations.pagerduty.trigger import Trigger
from tests.integrations.corpus import PAYLOADS
from tests.integrations.pagerduty.stages import KEY, PagerDuty, settings
from tests.integrations.support import Received, Wire, acting, reply, wire
from tests.servers import free_port


async def _page(
    answer: Callable[[Received], bytes | None], directory: Path, attempts: int = 1, **parameters: Any
) -> Outcome:
    action = Trigger.model_validate({"service": "minting", "summary": "the queue is full", **parameters})
    async with wire(answer) as it:
        target = PagerdutyTarget.model_validate(settings(directory, base_url=it.url, timeout="300ms"))
        try:
            outcomes = []
            for attempt in range(1, attempts + 1):
                context = acting(attempt=attempt)
                change = Change.from_json(json.loads(json.dumps((await action.diff(target, context)).as_json())))
                outcomes.append(await action.apply(target, change, context))
        finally:
            await target.close()
    return outcomes[-1]


async def test_people_are_paged_once_however_often_it_is_sent(tmp_path: Path) -> None:
    """Every attempt carries the same dedup_key: PagerDuty has one alert, and pages once."""
    it = PagerDuty()
    outcome = await _page(it.answer, tmp_path, attempts=3, component="queue", links={"Run": "https://r.example/1"})
    assert (len(it.events), it.pages) == (3, 1)
    event = it.open["remediator-run-1"]
    assert event["payload"] == {
        "summary": "the queue is full",
        "severity": "critical",
        "source": "remediator",
        "component": "queue",
        "custom_details": {},
    }
    assert event["links"] == [{"href": "https://r.example/1", "text": "Run"}]
    assert outcome.data == {"dedup_key": "remediator-run-1"}


async def test_the_way_back_resolves_the_same_alert(tmp_path: Path) -> None:
    """The inverse needs nothing but the change, and calls off exactly the alert that was opened."""
    it = PagerDuty()
    async with wire(it.answer) as server:
        target = PagerdutyTarget.model_validate(settings(tmp_path, base_url=server.url))
        action = Trigger(service="minting", summary="x")
        change = await action.diff(target, acting())
        await action.apply(target, change, acting())
        back = action.inverse(Change.from_json(json.loads(json.dumps(change.as_json()))))
        await back.apply(target, await back.diff(target, acting()), acting())
        await target.close()
    assert it.open == {}
    assert [event["event_action"] for event in it.events] == ["trigger", "resolve"]


async def test_what_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    """A page is never lost because a text of an alert is long."""
    it = PagerDuty()
    await _page(it.answer, tmp_path, summary="s" * 9000, source="ö" * 9000, details={"x": "ü" * 900_000})
    payload = it.events[0]["payload"]
    assert len(payload["summary"]) == 1024
    assert payload["summary"].endswith("characters left out]")
    assert "characters left out" in payload["source"]
    assert "characters left out" in payload["custom_details"]["shortened"]


@pytest.mark.parametrize(
    ("answer", "error", "word"),
    [
        (
            reply(400, b'{"status":"invalid event","message":"bad","errors":["x is missing"]}'),
            PermanentError,
            "missing",
        ),
        (reply(403), PermanentError, "403"),
        (reply(429), TemporaryError, "for now"),
        (reply(429, extra="Retry-After: 7\r\n"), TemporaryError, "wait 7 s"),
        (reply(307), PermanentError, "redirect"),
        (reply(500), Unanswered, "does not say"),
        (reply(200), Unanswered, "does not say"),
        (None, Unanswered, "was sent"),
        (Wire.HANG, Unanswered, "no answer"),
    ],
)
async def test_every_answer_has_its_meaning(
    tmp_path: Path, answer: bytes | None, error: type[Exception], word: str
) -> None:
    """What PagerDuty documents is told apart: refused, later, or unknown and then sent again under the same key."""
    with pytest.raises(error, match=word):
        await _page(lambda request: answer, tmp_path)


async def test_the_key_never_shows(tmp_path: Path) -> None:
    """Not in the change, not in an error, also when PagerDuty repeats it."""
    said = json.dumps({"message": f"Invalid key {KEY}"}).encode()
    with pytest.raises(PermanentError, match="Invalid key") as caught:
        await _page(lambda request: reply(400, said), tmp_path)
    assert KEY not in str(caught.value)
    target = PagerdutyTarget.model_validate(settings(tmp_path, base_url=f"http://127.0.0.1:{free_port()}"))
    change = await Trigger(service="minting", summary="x").diff(target, acting())
    assert KEY not in json.dumps(change.as_json()) + repr(target)
    with pytest.raises(TemporaryError, match="nothing was sent"):
        await Trigger(service="minting", summary="x").apply(target, change, acting())
    await target.close()


async def test_no_text_gets_past_the_event(tmp_path: Path) -> None:
    """Whatever a label holds stays a text of its field; a key that is no key is refused."""
    it, sent = PagerDuty(), 0
    async with wire(it.answer) as server:
        target = PagerdutyTarget.model_validate(settings(tmp_path, base_url=server.url))
        for payload in PAYLOADS:
            try:
                action = Trigger(service="minting", summary=f"x{payload}", details={"label": payload})
            except ValidationError:
                assert any(0xD800 <= ord(character) <= 0xDFFF for character in payload)
                continue
            await action.apply(target, await action.diff(target, acting()), acting())
            event = it.events[-1]
            assert event["payload"]["custom_details"] == {"label": payload}
            assert set(event) == {"routing_key", "event_action", "dedup_key", "payload", "links"}
            assert "\n" not in event["payload"]["summary"]
            sent += 1
        await target.close()
    assert sent > 300
    for key in ("a b", "", "x" * 256, "ü", "a\n"):
        with pytest.raises(ValidationError):
            Trigger(service="minting", summary="x", dedup_key=key)


async def test_an_unknown_service_pages_nobody(tmp_path: Path) -> None:
    """The settings list the services; another name is refused with theirs."""
    with pytest.raises(PermanentError, match="there are: minting"):
        await _page(PagerDuty().answer, tmp_path, service="billing")
