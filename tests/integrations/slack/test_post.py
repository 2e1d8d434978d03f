"""Tests of the action slack.post, against a stand-in that answers as Slack documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from remediator.action import Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.slack._mrkdwn import escaped
from remediator.integrations.slack.post import Post
from remediator.integrations.slack.target import SlackTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.slack.workspace import BOT, Workspace, no, secrets_in, too_many, workspace
from tests.integrations.support import Wire, acting, reply, wire


@pytest.fixture
async def slack() -> AsyncIterator[Workspace]:
    """A workspace."""
    async with workspace() as it:
        yield it


@pytest.fixture
async def target(slack: Workspace, tmp_path: Path) -> AsyncIterator[SlackTarget]:
    """The app in that workspace."""
    it = SlackTarget(name="slack", base_url=slack.url, **secrets_in(tmp_path))
    yield it
    await it.close()


async def _post(target: SlackTarget, **parameters: Any) -> Outcome:
    action = Post.model_validate({"channel": "#incidents", **parameters})
    change = Change.from_json(json.loads(json.dumps((await action.diff(target, acting())).as_json())))
    return await action.apply(target, change, acting())


async def test_the_message_is_the_one_that_was_shown(slack: Workspace, target: SlackTarget) -> None:
    """Title, text, sections and links arrive; nothing is unfurled; the key of the step travels along."""
    outcome = await _post(
        target,
        title="SEV1 minting",
        text="queue full",
        sections=[{"title": "Tried", "text": "scaled to 5"}],
        links={"Runbook": "https://runbooks.example.com/minting#queue"},
    )
    (message,) = slack.messages
    assert message["text"] == "SEV1 minting\nqueue full\nTried\nscaled to 5"
    texts = [block["text"]["text"] for block in message["blocks"]]
    assert texts == [
        "SEV1 minting",
        "queue full",
        "*Tried*\nscaled to 5",
        "<https://runbooks.example.com/minting#queue|Runbook>",
    ]
    assert (message["unfurl_links"], message["unfurl_media"], message["link_names"]) == (False, False, False)
    assert message["metadata"]["event_payload"] == {"key": "run-1.step0"}
    assert outcome.data == {"channel": "C0123456789", "ts": message["ts"]}


async def test_no_text_calls_anybody(slack: Workspace, target: SlackTarget) -> None:
    """Whatever a label holds, no control sequence of Slack comes out of it: no mention, no link, no @channel."""
    nasty = [*PAYLOADS, "<!channel> <!here> <@U123> <https://evil.example|x>", "@channel @here", "&lt;!channel&gt;"]
    for payload in nasty:
        if not payload.strip():
            continue
        try:
            await _post(target, text=payload, title=payload[:50], sections=[{"title": payload, "text": payload}])
        except ValidationError:
            assert any(0xD800 <= ord(character) <= 0xDFFF for character in payload)
    assert len(slack.messages) > 300
    for message in slack.messages:
        for text in [message["text"], *(block["text"]["text"] for block in message["blocks"][1:])]:
            assert "<" not in text
            assert ">" not in text
        assert message["parse"] == "none"
        assert all(block["text"]["verbatim"] for block in message["blocks"][1:])


async def test_who_is_called_stands_in_the_rule(slack: Workspace, target: SlackTarget) -> None:
    """mention calls, and it is a parameter that takes no placeholder."""
    await _post(target, text="help", mention=["here", "U0123ABC", "S0123ABC"])
    assert slack.messages[0]["text"] == "<!here> <@U0123ABC> <!subteam^S0123ABC> help"
    assert "mention" in Post.literal
    with pytest.raises(ValidationError):
        Post(channel="#incidents", text="x", mention=["<!channel>"])


async def test_what_is_too_long_is_cut_and_says_so(slack: Workspace, target: SlackTarget) -> None:
    """No limit of Slack is passed, no escape is cut in half, and the reader learns how much is missing."""
    sections = [{"title": f"part {number}", "text": "&" * 9000} for number in range(80)]
    await _post(target, title="t" * 900, text="<" * 50_000, sections=sections)
    (message,) = slack.messages
    assert "characters left out" in message["text"]
    assert len(message["text"]) <= 4000
    assert "sections left out" in message["blocks"][-1]["text"]["text"]
    for text in [message["text"], *(block["text"]["text"] for block in message["blocks"])]:
        assert text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").count("&") == 0
    assert escaped("&&&", 5) != "&amp;&a"


@pytest.mark.parametrize("word", ["channel_not_found", "not_in_channel", "invalid_auth", "is_archived", "msg_too_long"])
async def test_a_refusal_is_permanent(slack: Workspace, target: SlackTarget, word: str) -> None:
    """Slack says no with status 200; it was not sent."""
    slack.refuse = [no(word)]
    with pytest.raises(PermanentError, match=word) as caught:
        await _post(target, text="x")
    assert caught.value.reason == word
    assert slack.messages == []


async def test_too_many_requests_are_tried_later(slack: Workspace, target: SlackTarget) -> None:
    """A 429 did not happen, and how long Slack asks to wait is told."""
    slack.refuse = [too_many(30), no("ratelimited"), web.Response(status=503, headers={"Retry-After": "5"})]
    for word in ("wait 30 s", "ratelimited", "503"):
        with pytest.raises(TemporaryError, match=word):
            await _post(target, text="x")
    await _post(target, text="x")
    assert len(slack.messages) == 1


@pytest.mark.parametrize("error", ["fatal_error", "internal_error"])
async def test_an_error_that_says_nothing_is_unknown(slack: Workspace, target: SlackTarget, error: str) -> None:
    """After these Slack itself does not know, so it is sent again: the effect is keyed."""
    slack.refuse = [no(error)]
    with pytest.raises(Unanswered):
        await _post(target, text="x")
    assert Post(channel="#incidents", text="x").effect_on(target) is Effect.KEYED


@pytest.mark.parametrize("answer", [Wire.HANG, None, reply(500), reply(200, b"[]"), reply(200, b"nonsense")])
async def test_no_answer_is_unknown(tmp_path: Path, answer: bytes | None) -> None:
    """A hung or broken server ends within its time, and whether it took the message is unknown."""
    async with wire(lambda request: answer) as it:
        target = SlackTarget.model_validate({"base_url": it.url, "timeout": "200ms", **secrets_in(tmp_path)})
        with pytest.raises(Unanswered):
            await _post(target, text="x")
        await target.close()
    assert len(it.received) == 1


async def test_a_wrong_or_missing_token_is_said_without_it(slack: Workspace, tmp_path: Path) -> None:
    """The token is read for every message; no message of ours repeats it."""
    target = SlackTarget(base_url=slack.url, **secrets_in(tmp_path))
    (tmp_path / "bearer_token_file").write_text("xoxb-somebody-else")
    with pytest.raises(PermanentError, match="invalid_auth") as caught:
        await _post(target, text="x")
    assert "xoxb" not in str(caught.value)
    (tmp_path / "bearer_token_file").write_text(BOT)
    await _post(target, text="x")
    await target.close()
    assert BOT not in repr(target)


async def test_a_question_carries_signed_buttons(slack: Workspace, target: SlackTarget, tmp_path: Path) -> None:
    """Approve and reject stand under the message, each bound to run and digest; without a secret there are none."""
    ask = {"run": "run-7", "digest": "a" * 64, "expires_at": 1_800_000_900.0}
    await _post(target, text="may I?", ask=ask)
    (actions,) = [block for block in slack.messages[0]["blocks"] if block["type"] == "actions"]
    assert [element["action_id"] for element in actions["elements"]] == ["remediator.approve", "remediator.reject"]
    assert all("run-7" in element["value"] for element in actions["elements"])
    bare = SlackTarget(base_url=slack.url, bearer_token_file=str(tmp_path / "bearer_token_file"))
    with pytest.raises(PermanentError, match="signing_secret_file"):
        await _post(bare, text="may I?", ask=ask)
    await bare.close()


@pytest.mark.parametrize("channel", ["incidents", "#", "#a b", "<!channel>", "#x>", "@bob", "", "c0123456789", "#x\n"])
def test_what_is_no_channel_is_refused(channel: str) -> None:
    """A channel is #name or an id."""
    with pytest.raises(ValidationError):
        Post(channel=channel, text="x")


def test_a_message_says_something() -> None:
    """An empty message is an error when the rule is loaded."""
    with pytest.raises(ValidationError, match="needs a text"):
        Post(channel="#incidents")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x|<!channel>", "https://a b", "ftp://x", "https://ü"])
def test_what_is_no_link_is_refused(url: str) -> None:
    """Only web addresses become links."""
    with pytest.raises(ValidationError, match="link"):
        Post(channel="#incidents", text="x", links={"a": url})


async def test_a_message_that_changed_since_it_was_shown_is_not_sent(slack: Workspace, target: SlackTarget) -> None:
    """What was approved is what is sent, or nothing."""
    change = await Post(channel="#incidents", text="a").diff(target, acting())
    with pytest.raises(PermanentError, match="no longer"):
        await Post(channel="#incidents", text="b").apply(target, change, acting())
    assert slack.messages == []
    assert await Post(channel="#incidents", text="a").reconcile(target, change, acting()) is Happened.UNKNOWN
