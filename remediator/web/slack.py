"""Answers of people in Slack: who pressed, may they, and the same vote as everywhere else.

A click counts only if its button was signed by us, belongs to a question that is open, and was pressed by somebody whom
the settings know by ``slack_id`` as an approver. The store binds it to the digest that was shown, as it does any vote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from remediator.action import canonical_json
from remediator.audit import Entry
from remediator.clock import Clock
from remediator.errors import ActionError, Conflict, NotFound
from remediator.integrations._client import Unanswered
from remediator.integrations._secret import read_secret
from remediator.integrations.slack import _buttons, _mrkdwn
from remediator.integrations.slack._socket import Socket
from remediator.integrations.slack.target import SlackTarget
from remediator.log import logger
from remediator.web.answers import Refused
from remediator.web.body import read_body
from remediator.web.call import Call
from remediator.web.service import Role, Service, User

_log = logger("web")
_BODY = 512 * 1024
_STALE = 300.0
"""Clicks that are older than this many seconds are replays, or were held up: neither counts (Slack's own advice)."""


class SlackAnswers:
    """The door for what people press under the messages of one Slack app."""

    def __init__(self, service: Service, target: SlackTarget) -> None:
        self._service = service
        self._target = target

    def socket(self) -> Socket:
        """The connection over which Slack hands over what people press."""
        return Socket(self._target, self.clicked)

    async def clicked(self, payload: Mapping[str, Any]) -> None:
        """Deal with one ``block_actions`` payload. Raises StoreUnavailable, and ActionError without the secret."""
        actions = payload.get("actions")
        action = actions[0] if isinstance(actions, list) and actions else None
        if payload.get("type") != "block_actions" or not isinstance(action, Mapping):
            return
        if action.get("action_id") not in (_buttons.APPROVE, _buttons.REJECT):
            return
        who = str(_inside(payload, "user", "id"))[:40]
        try:
            said, final = await self._vote(who, action)
        except (_buttons.Refused, Conflict, NotFound) as error:
            reason = error.reason if isinstance(error, _buttons.Refused) else "conflict"
            detail = {"reason": reason, "message": str(error), "slack_id": who}
            await self._service.store.append(Entry(event="approval.refused", actor=f"slack:{who}", detail=detail))
            _log.warning("a click in Slack does not count", **detail)
            await self._whisper(payload, who, f"This does not count: {error}.")
            return
        if final:
            await self._close(payload, said)
        else:
            await self._whisper(payload, who, said)

    async def _vote(self, who: str, action: Mapping[str, Any]) -> tuple[str, bool]:
        """Count the answer; what to say, and whether the question is closed by it."""
        now = self._service.clock.now()
        secret = read_secret(self._target.signing_secret_file or "", "signing_secret_file")
        answer = _buttons.read(secret, str(action.get("value", "")), now)
        if not _fresh(action.get("action_ts"), now):
            raise _buttons.Refused("stale", "it was pressed too long ago")
        user = self._user(who)
        actor = f"user:{user.name}"
        run = await self._service.store.vote(answer.run, answer.digest, actor, answer.yes, "in Slack")
        _log.info("approved" if answer.yes else "rejected", run=run.id, actor=actor, digest=answer.digest, by="slack")
        self._service.wake()
        approval = await self._service.store.approval(run.id)
        open_still = approval is not None and approval.digest == answer.digest and approval.state == "pending"
        did = "approved" if answer.yes else "rejected"
        if open_still and approval is not None:
            return f"Counted: {len(approval.votes)} of {approval.needed} yes.", False
        return f"{did.capitalize()} by {user.name}.", True

    def _user(self, who: str) -> User:
        user = next((user for user in self._service.options.users if user.slack_id and user.slack_id == who), None)
        if user is None:
            raise _buttons.Refused("unmapped", "nobody in the settings has this id in Slack")
        if not user.role.covers(Role.APPROVER):
            raise _buttons.Refused("role", f"{user.name} is no approver")
        return user

    # what people see afterwards -------------------------------------------------------------------------------------

    async def _close(self, payload: Mapping[str, Any], said: str) -> None:
        """Take the buttons away and say who decided, where everybody can see it."""
        given = _inside(payload, "message", "blocks")
        kept = [block for block in given if _type(block) != "actions"] if isinstance(given, list) else []
        text = _mrkdwn.escape(said)
        message = {
            "channel": _inside(payload, "container", "channel_id"),
            "ts": _inside(payload, "container", "message_ts"),
            "text": text,
            "blocks": [*kept[: _mrkdwn.BLOCKS - 1], _mrkdwn.section(f"*{text}*")],
        }
        await self._call("/chat.update", message)

    async def _whisper(self, payload: Mapping[str, Any], who: str, said: str) -> None:
        """Tell only the person who pressed."""
        channel = _inside(payload, "container", "channel_id")
        await self._call("/chat.postEphemeral", {"channel": channel, "user": who, "text": _mrkdwn.escape(said)})

    async def _call(self, path: str, message: Mapping[str, Any]) -> None:
        """The vote is what counts and is committed: that Slack cannot show it is no reason to do it again."""
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            answer = await self._target.send("POST", path, headers=headers, body=canonical_json(message).encode())
        except (ActionError, Unanswered) as error:
            _log.warning("Slack could not be told what became of a click", error=str(error))
        else:
            if answer.status != 200 or b'"ok":true' not in answer.body.replace(b" ", b""):
                _log.warning("Slack refused to show what became of a click", status=answer.status)


def _inside(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if value is not None else ""


def _type(block: Any) -> Any:
    return block.get("type") if isinstance(block, Mapping) else None


def _fresh(at: Any, now: float) -> bool:
    try:
        return abs(now - float(str(at)[:30])) <= _STALE
    except ValueError:
        return False


async def receive_click(call: Call) -> web.Response:
    """What people press in Slack, where its app sends it to an address (Interactivity) instead of over Socket Mode."""
    request, service = call.request, call.service
    body = await read_body(request, _BODY, service.options.body_timeout)
    app = next((app for app in service.slack_apps if _signed(app, request, body, service.clock)), None)
    if app is None:
        raise Refused(401, "signature", "this was not signed by a Slack app of the settings, or too long ago")
    try:
        payload = json.loads(parse_qs(body.decode(), max_num_fields=10)["payload"][0])
    except (ValueError, KeyError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise Refused(400, "payload", "the form must have a field payload with a JSON object, as Slack sends it")
    await SlackAnswers(service, app).clicked(payload)
    return web.Response(text="")


def _signed(app: SlackTarget, request: web.BaseRequest, body: bytes, clock: Clock) -> bool:
    """Whether Slack signed this for ``app`` within the last five minutes (Slack, "Verifying requests from Slack")."""
    from slack_sdk.signature import Clock as SlackClock
    from slack_sdk.signature import SignatureVerifier

    class Ours(SlackClock):
        def now(self) -> float:
            return clock.now()

    at = request.headers.get("X-Slack-Request-Timestamp", "")
    if not at.isascii() or not at.isdigit() or len(at) > 12 or app.signing_secret_file is None:
        return False
    try:
        secret = read_secret(app.signing_secret_file, "signing_secret_file")
    except ActionError as error:
        _log.error("clicks in Slack cannot be checked", error=str(error))
        return False
    seal = request.headers.get("X-Slack-Signature", "")
    return bool(seal.isascii() and SignatureVerifier(secret, Ours()).is_valid(body, at, seal))
