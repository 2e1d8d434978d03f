"""Tests of the action apprise.notify: the real library in front of a real server on loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from remediator.action import Effect
from remediator.errors import PermanentError
from remediator.integrations._client import Unanswered
from remediator.integrations.apprise.notify import Notify
from tests.integrations.apprise.stages import one_recipient
from tests.integrations.corpus import PAYLOADS
from tests.integrations.support import Wire, acting, reply, wire


async def test_the_message_arrives_as_it_was_shown(tmp_path: Path) -> None:
    """Title, text and kind go through the library to the service."""
    async with wire() as it:
        target = one_recipient(tmp_path, f"json://127.0.0.1:{it.port}/hook")
        action = Notify(to="team", title="SEV1", text="queue full", kind="failure")
        change = await action.diff(target, acting())
        await action.apply(target, change, acting())
    body = json.loads(it.received[0].body)
    assert (body["title"], body["message"], body["type"]) == ("SEV1", "queue full", "failure")
    assert "127.0.0.1" not in json.dumps(change.as_json())


async def test_what_a_label_holds_stays_text(tmp_path: Path) -> None:
    """No markup, escape or attachment is made of a text, whatever it looks like."""
    shown = [
        payload for payload in PAYLOADS if payload.strip() and payload.isprintable() and payload.strip() == payload
    ]
    async with wire() as it:
        target = one_recipient(tmp_path, f"json://127.0.0.1:{it.port}/")
        for payload in shown[::8]:
            action = Notify(to="team", text=payload)
            await action.apply(target, await action.diff(target, acting()), acting())
            body = json.loads(it.received[-1].body)
            assert body["message"] == payload
            assert body["attachments"] == []
    assert len(it.received) > 20


@pytest.mark.parametrize("answer", [reply(500), reply(403), None])
async def test_a_no_is_unknown_and_sent_again(tmp_path: Path, answer: bytes | None) -> None:
    """Apprise says only yes or no; a doubled message is harmless, a lost one is not."""
    async with wire(lambda request: answer) as it:
        target = one_recipient(tmp_path, f"json://127.0.0.1:{it.port}/")
        action = Notify(to="team", text="x")
        with pytest.raises(Unanswered):
            await action.apply(target, await action.diff(target, acting()), acting())
    assert Notify.effect is Effect.KEYED


async def test_a_hung_service_ends_in_time(tmp_path: Path) -> None:
    """The time of the target holds, whatever the service does."""
    async with wire(lambda request: Wire.HANG) as it:
        target = one_recipient(tmp_path, f"json://127.0.0.1:{it.port}/?rto=0.5&cto=0.5", timeout="200ms")
        action = Notify(to="team", text="x")
        with pytest.raises(Unanswered, match="within 200ms"):
            await action.apply(target, await action.diff(target, acting()), acting())


async def test_an_address_that_is_none_is_said_without_it(tmp_path: Path) -> None:
    """The address is a secret: the message names the recipient."""
    target = one_recipient(tmp_path, "no-such-scheme://token-that-is-secret")
    action = Notify(to="team", text="x")
    with pytest.raises(PermanentError, match="address of team") as caught:
        await action.apply(target, await action.diff(target, acting()), acting())
    assert "token" not in str(caught.value)
    with pytest.raises(PermanentError, match="there are: team"):
        await Notify(to="others", text="x").diff(target, acting())


async def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apprise is an extra: a rule that uses it loads, and the run says what is missing."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    target = one_recipient(tmp_path, "json://127.0.0.1:1/")
    action = Notify(to="team", text="x")
    with pytest.raises(PermanentError, match=r"pip install 'remediator\[apprise\]'"):
        await action.apply(target, await action.diff(target, acting()), acting())
