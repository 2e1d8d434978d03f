"""One event to PagerDuty and what its answers mean.

Sources: PagerDuty, "Events API v2 overview" and "Send an alert event": 202 accepted, 400 invalid, 429 too many,
5xx try again; an event with a known ``dedup_key`` joins its alert instead of opening another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.action import ActionContext, canonical_json
from remediator.errors import PermanentError
from remediator.excerpt import shorten
from remediator.integrations._body import parse_json
from remediator.integrations._client import Answer
from remediator.integrations._notice import refusal
from remediator.integrations._secret import read_secret
from remediator.integrations.pagerduty.target import PagerdutyTarget

SERVICE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
DEDUP_KEY = r"^[!-~]{1,255}$"
LIMIT = 500_000
"""PagerDuty takes 512 KB, of which the envelope needs some."""


def known(target: PagerdutyTarget, service: str) -> None:
    """Raises PermanentError where the target has no such service."""
    if service not in target.services:
        names = ", ".join(target.services)
        raise PermanentError(
            f'target "{target.name}" has no service "{service}" (there are: {names})', reason="service"
        )


async def send(target: PagerdutyTarget, service: str, event: Mapping[str, Any], context: ActionContext) -> str:
    """Send ``event`` with the routing key of ``service``; what PagerDuty said. Raises as ``Action.apply`` does."""
    key = read_secret(target.services[service].routing_key_file, f"services.{service}.routing_key_file")
    body = canonical_json({**event, "routing_key": key}).encode()
    if len(body) > LIMIT:
        raise PermanentError(f"the event has {len(body)} bytes, and PagerDuty takes 512 KB", reason="too_large")
    answer = await target.send(
        "POST",
        "/v2/enqueue",
        headers={"Content-Type": "application/json"},
        body=body,
        check=context.check_deadline,
    )
    said = f"PagerDuty answered {answer.status}{_reasons(answer, key)}"
    if answer.status != 202:
        raise refusal(said, answer)
    return said


def _reasons(answer: Answer, key: str) -> str:
    """What PagerDuty gives as its reasons, without the key."""
    try:
        data = parse_json(answer.body)
    except ValueError:
        return ""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    words = [str(data.get("message", "")), *(map(str, errors) if isinstance(errors, list) else ())]
    told = shorten("; ".join(filter(None, words)), 300).replace(key, "[redacted]")
    return f" ({told})" if told else ""
