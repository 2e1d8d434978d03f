"""The buttons of a question: each carries its answer, signed, so that only what we asked can be answered."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.action import canonical_json

APPROVE = "remediator.approve"
REJECT = "remediator.reject"


class Refused(Exception):
    """A click that does not count. ``reason`` is a stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What a button says: the question it belongs to, and yes or no."""

    run: str
    digest: str
    yes: bool
    expires_at: float


def _seal(secret: str, text: str) -> str:
    # The prefix keeps a seal of ours from ever being one of Slack's ("v0:…"), which use the same secret.
    return hmac.new(secret.encode(), b"remediator-button:" + text.encode(), hashlib.sha256).hexdigest()


def value(secret: str, answer: Answer) -> str:
    """The text that the button carries."""
    text = canonical_json({"d": answer.digest, "e": answer.expires_at, "r": answer.run, "y": answer.yes})
    return f"{_seal(secret, text)}.{text}"


def read(secret: str, text: str, now: float) -> Answer:
    """The answer that a button carried. Raises Refused unless we signed it and its question is still open."""
    seal, _, body = text.partition(".")
    if not hmac.compare_digest(seal.encode(), _seal(secret, body).encode()):
        raise Refused("forged", "this button was not made by Remediator")
    data = json.loads(body)
    answer = Answer(data["r"], data["d"], data["y"], data["e"])
    if answer.expires_at <= now:
        raise Refused("expired", "this question is no longer open")
    return answer


def block(secret: str, ask: Mapping[str, Any]) -> dict[str, Any]:
    """The block with both buttons. A yes is asked once more, because a button is easily touched."""

    def made(yes: bool) -> str:
        return value(secret, Answer(ask["run"], ask["digest"], yes, ask["expires_at"]))

    return {
        "type": "actions",
        "block_id": "remediator",
        "elements": [
            {
                "type": "button",
                "action_id": APPROVE,
                "style": "primary",
                "text": {"type": "plain_text", "text": "Approve"},
                "value": made(True),
                "confirm": {
                    "title": {"type": "plain_text", "text": "Approve exactly this?"},
                    "text": {"type": "plain_text", "text": f"Run {ask['run']}, digest {ask['digest'][:12]}"},
                    "confirm": {"type": "plain_text", "text": "Approve"},
                    "deny": {"type": "plain_text", "text": "Not yet"},
                },
            },
            {
                "type": "button",
                "action_id": REJECT,
                "style": "danger",
                "text": {"type": "plain_text", "text": "Reject"},
                "value": made(False),
            },
        ],
    }
