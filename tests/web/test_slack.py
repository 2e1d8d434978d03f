"""Proves that a click in Slack is a vote like any other, and that nothing else pressed or sent there is one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from remediator.clock import SystemClock
from remediator.integrations.slack import _buttons
from remediator.integrations.slack.post import Post
from remediator.integrations.slack.target import SlackTarget
from remediator.run import State
from remediator.web.service import Role, User
from remediator.web.slack import SlackAnswers
from tests.integrations.slack.workspace import SIGNING, Workspace, click, secrets_in, workspace
from tests.integrations.support import HandClock, acting
from tests.web.site import DIGEST, Site, asked, open_site

ALICE, BOB, VERA = "U0ALICE", "U0BOB", "U0VERA"


@dataclass
class Office:
    """A site, a workspace with our app in it, and the connection between them."""

    site: Site
    slack: Workspace
    target: SlackTarget
    now: float

    async def question(self, *, digest: str = DIGEST, expires_at: float = 0.0, needed: int = 1) -> tuple[str, Any]:
        """A run that asks, and the message with its buttons in the channel."""
        run_id = await asked(self.site, needed)
        ask = {"run": run_id, "digest": digest, "expires_at": expires_at or self.now + 900}
        action = Post.model_validate({"channel": "#incidents", "text": "May I?", "ask": ask})
        context = acting(HandClock(self.now))
        await action.apply(self.target, await action.diff(self.target, context), context)
        return run_id, self.slack.messages[-1]

    async def press(self, payload: dict[str, Any], envelope: str = "") -> str:
        """Hand a click to the app and wait until it is acknowledged."""
        envelope = await self.slack.send(payload, envelope)
        async with asyncio.timeout(5):
            await self.slack.heard.wait()
        assert self.slack.acknowledged[-1] == envelope
        return envelope

    async def state(self, run_id: str) -> State:
        return (await self.site.service.store.run(run_id)).state

    async def refusals(self) -> list[str]:
        """The reasons of refused clicks in the audit."""
        records = await self.site.service.store.audit(event="approval.refused")
        return [_detail(record)["reason"] for record in records]


def _detail(record: Any) -> Any:
    return json.loads(record.body)["detail"]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """Alice and Bob are approvers, Vera is a viewer; all are known in Slack."""
    tokens = {name: str(tmp_path / name) for name in ("alice", "bob", "vera")}
    for number, name in enumerate(tokens):
        Path(tokens[name]).write_text(f"{number}f1d0c5b9a8e7f3d2c1b0a9f8e7d6c5b\n")
    users = (
        User("alice", Role.APPROVER, tokens["alice"], ALICE),
        User("bob", Role.ADMIN, tokens["bob"], BOB),
        User("vera", Role.VIEWER, tokens["vera"], VERA),
    )
    async with AsyncExitStack() as stack, workspace() as slack:
        site = await open_site(stack, SystemClock(), users=users)
        target = SlackTarget.model_validate(
            {"name": "slack", "base_url": slack.url, "ping": "1s", **secrets_in(tmp_path)}
        )
        task = asyncio.create_task(SlackAnswers(site.service, target).socket().for_ever())
        async with asyncio.timeout(10):
            await slack.connected.wait()
        try:
            yield Office(site, slack, target, SystemClock().now())
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await target.close()


async def test_a_click_is_a_vote(office: Office) -> None:
    """Approved under the name of the settings, bound to the digest, seen by the channel, the buttons gone."""
    run_id, message = await office.question()
    await office.press(click(message, ALICE, at=office.now))
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert (approval.state, approval.digest) == ("granted", DIGEST)
    assert [(vote["actor"], vote["comment"]) for vote in approval.votes] == [("user:alice", "in Slack")]
    (update,) = office.slack.updates
    assert (update["channel"], update["ts"], update["text"]) == ("C0123456789", message["ts"], "Approved by alice.")
    assert all(block["type"] != "actions" for block in update["blocks"])
    assert office.site.service.woken > 1


async def test_a_no_ends_the_run(office: Office) -> None:
    """Reject denies, like everywhere."""
    run_id, message = await office.question()
    await office.press(click(message, BOB, at=office.now, yes=False))
    assert await office.state(run_id) is State.DENIED
    assert office.slack.updates[0]["text"] == "Rejected by bob."


async def test_two_must_come_where_two_are_asked(office: Office) -> None:
    """One person counts once, however often they press; the buttons stay until the second one has come."""
    run_id, message = await office.question(needed=2)
    await office.press(click(message, ALICE, at=office.now))
    await office.press(click(message, ALICE, at=office.now))
    assert [whisper["text"] for whisper in office.slack.whispers] == [
        "Counted: 1 of 2 yes.",
        "This does not count: user:alice has already answered.",
    ]
    assert office.slack.updates == []
    await office.press(click(message, BOB, at=office.now))
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert approval.state == "granted"
    assert len(approval.votes) == 2


@pytest.mark.parametrize(
    ("user", "reason", "said"),
    [
        ("U0NOBODY", "unmapped", "nobody in the settings"),
        ("", "unmapped", "nobody in the settings"),
        (VERA, "role", "vera is no approver"),
    ],
)
async def test_who_may_not_approve_does_not(office: Office, user: str, reason: str, said: str) -> None:
    """An id that is not in the settings has no vote, nor has one without the role; both stand in the audit."""
    run_id, message = await office.question()
    await office.press(click(message, user, at=office.now))
    assert await office.state(run_id) is State.HELD
    assert said in office.slack.whispers[0]["text"]
    assert await office.refusals() == [reason]


async def test_a_forged_button_does_not_count(office: Office) -> None:
    """Another run, another digest, another answer, a seal by another secret, or none: refused."""
    run_id, message = await office.question()
    value = message["blocks"][-1]["elements"][1]["value"]
    answer = _buttons.Answer(run_id, DIGEST, True, office.now + 900)
    forged = [
        value.replace('"y":false', '"y":true'),
        value.replace(DIGEST, "b" * 64),
        _buttons.value("another secret", answer),
        value.partition(".")[2],
        "",
        "{}",
        "." * 2000,
    ]
    for text in forged:
        payload = click(message, ALICE, at=office.now)
        payload["actions"][0]["value"] = text
        await office.press(payload)
    assert await office.state(run_id) is State.HELD
    assert await office.refusals() == ["forged"] * len(forged)
    assert _buttons.read(SIGNING, _buttons.value(SIGNING, answer), office.now) == answer


async def test_old_clicks_and_closed_questions_do_not_count(office: Office) -> None:
    """A click of long ago is a replay; an expired button, and one for other changes than those asked about, too."""
    run_id, message = await office.question()
    for at in (office.now - 301, office.now + 301):
        await office.press(click(message, ALICE, at=at))
    payload = click(message, ALICE, at=office.now)
    payload["actions"][0]["action_ts"] = "yesterday"
    await office.press(payload)
    payload["actions"][0]["action_ts"] = f"{office.now}"
    for expires_at, digest in ((office.now - 1, DIGEST), (office.now + 900, "b" * 64)):
        payload["actions"][0]["value"] = _buttons.value(SIGNING, _buttons.Answer(run_id, digest, True, expires_at))
        await office.press(payload)
    assert await office.state(run_id) is State.HELD
    assert await office.refusals() == ["stale", "stale", "stale", "expired", "conflict"]


async def test_the_same_envelope_twice_is_one_vote(office: Office) -> None:
    """Slack sends again what was not acknowledged in time: the second one changes nothing."""
    run_id, message = await office.question(needed=2)
    envelope = await office.press(click(message, ALICE, at=office.now), "e-1")
    await office.press(click(message, ALICE, at=office.now), envelope)
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert len(approval.votes) == 1


async def test_other_things_that_are_pressed_are_none_of_ours(office: Office) -> None:
    """Other buttons, other kinds of payloads and nonsense are acknowledged and change nothing."""
    run_id, message = await office.question()
    other = click(message, ALICE, at=office.now)
    other["actions"][0]["action_id"] = "somebody.elses"
    for payload in (
        other,
        {"type": "view_submission"},
        {"type": "block_actions"},
        {"type": "block_actions", "actions": 1},
    ):
        await office.press(payload)
    assert await office.state(run_id) is State.HELD
    assert await office.refusals() == []


async def test_a_lost_connection_is_made_again(office: Office) -> None:
    """Slack closes connections as it likes, with a word before or without: the app is back, and a click counts."""
    run_id, message = await office.question()
    for how in ("warned", "cut"):
        office.slack.connected.clear()
        if how == "warned":
            await office.slack.sockets[-1].send_json({"type": "disconnect", "reason": "refresh_requested"})
        else:
            await office.slack.sockets[-1].close()
        async with asyncio.timeout(15):
            await office.slack.connected.wait()
    assert office.slack.opened >= 3
    await office.press(click(message, ALICE, at=office.now))
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert approval.state == "granted"


async def test_a_vote_counts_although_slack_cannot_show_it(office: Office) -> None:
    """What the channel sees afterwards is a courtesy; the vote is committed before."""
    run_id, message = await office.question()
    (Path(office.target.bearer_token_file)).write_text("xoxb-revoked-by-somebody")
    await office.press(click(message, ALICE, at=office.now))
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert approval.state == "granted"
    assert office.slack.updates == []


async def _send(
    office: Office, payload: Any, *, at: float = 0.0, secret: str = SIGNING, headers: dict[str, str] | None = None
) -> int:
    """The status of a click that Slack posts to our address."""
    body = urlencode({"payload": payload if isinstance(payload, str) else json.dumps(payload)})
    made = str(int(at or office.now))
    seal = "v0=" + hmac.new(secret.encode(), f"v0:{made}:{body}".encode(), hashlib.sha256).hexdigest()
    given = {"X-Slack-Request-Timestamp": made, "X-Slack-Signature": seal} | (headers or {})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _ = await office.site.post("/api/v1/slack", data=body, headers=form | given)
    return status


async def test_a_click_may_come_to_our_address_too(office: Office) -> None:
    """Signed by Slack it is the same vote; without the app in the settings nobody is heard."""
    run_id, message = await office.question()
    payload = click(message, ALICE, at=office.now)
    assert await _send(office, payload) == 401
    office.site.service.slack_apps = [office.target]
    assert await _send(office, payload) == 200
    approval = await office.site.service.store.approval(run_id)
    assert approval is not None
    assert [vote["actor"] for vote in approval.votes] == ["user:alice"]
    assert office.slack.updates[0]["text"] == "Approved by alice."


async def test_what_slack_did_not_sign_is_not_heard(office: Office) -> None:
    """Another secret, another body, an old signature, none, or garbage: 401, and nothing is read of it."""
    run_id, message = await office.question()
    office.site.service.slack_apps = [office.target]
    payload = click(message, ALICE, at=office.now)
    assert await _send(office, payload, secret="another secret") == 401
    for at in (office.now - 310, office.now + 310):
        assert await _send(office, payload, at=at) == 401
    for headers in ({"X-Slack-Signature": "v0=" + "0" * 64}, {"X-Slack-Signature": ""}, {"X-Slack-Signature": "v0"}):
        assert await _send(office, payload, headers=headers) == 401
    for stamp in ("", "yesterday", "1e9", "-1", "9" * 400):
        assert await _send(office, payload, headers={"X-Slack-Request-Timestamp": stamp}) == 401
    assert await office.state(run_id) is State.HELD


@pytest.mark.parametrize("payload", ["", "nonsense", "[]", "1", "[" * 20_000])
async def test_what_is_signed_and_no_payload_is_refused(office: Office, payload: str) -> None:
    """A form without a JSON object is the sender's mistake, and the service goes on."""
    office.site.service.slack_apps = [office.target]
    assert await _send(office, payload) == 400
    status, _ = await office.site.post("/api/v1/slack", data=b"x" * 600_000)
    assert status == 413
