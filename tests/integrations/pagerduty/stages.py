"""PagerDuty's Events API as it is documented, and the stages of its actions for the contract suite."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediator.action import Action
from remediator.integrations.pagerduty.resolve import Resolve
from remediator.integrations.pagerduty.target import PagerdutyTarget
from remediator.integrations.pagerduty.trigger import Trigger
from tests.integrations.arrangements import Arrangement, Stage
from tests.integrations.support import Received, reply, wire

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class PagerDuty:
    """What is open, by key. Events with a known key join; resolving what is not open is accepted and does nothing."""

    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    pages: int = 0

    def answer(self, request: Received) -> bytes:
        """202 for a good event, 400 with reasons for a bad one."""
        event = json.loads(request.body)
        errors = []
        if request.line != b"POST /v2/enqueue HTTP/1.1":
            return reply(404, b"{}")
        if event.get("routing_key") != KEY:
            errors.append("'routing_key' is invalid")
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            errors.append("'event_action' is invalid")
        if event.get("event_action") == "trigger":
            payload = event.get("payload", {})
            errors += [
                f"'payload.{name}' is missing" for name in ("summary", "source", "severity") if name not in payload
            ]
            if len(payload.get("summary", "")) > 1024:
                errors.append("'payload.summary' is too long")
        if errors:
            said = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            return reply(400, json.dumps(said).encode())
        self.events.append(event)
        key = event["dedup_key"]
        if event["event_action"] == "trigger":
            self.pages += key not in self.open
            self.open[key] = event
        else:
            self.open.pop(key, None)
        said = {"status": "success", "message": "Event processed", "dedup_key": key}
        return reply(202, json.dumps(said).encode())


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    """The settings of a target with one service."""
    (directory / "routing-key").write_text(KEY + "\n")
    services = {"minting": {"routing_key_file": str(directory / "routing-key")}}
    permit = {"actions": ["pagerduty.*"], "services": ["minting"]}
    return {"services": services, "permit": permit, **more}


def _stage(action: Action[Any]) -> Arrangement:
    @asynccontextmanager
    async def arrange(directory: Path) -> AsyncIterator[Stage]:
        it = PagerDuty()
        async with wire(it.answer) as server:
            target = PagerdutyTarget.model_validate(settings(directory, base_url=server.url))
            yield Stage(action=action, target=target, effects=lambda: len(it.events), converges=False)
            await target.close()

    return arrange


STAGES = {
    "pagerduty.trigger": _stage(Trigger(service="minting", summary="the queue is full")),
    "pagerduty.resolve": _stage(Resolve(service="minting", dedup_key="remediator-run-1")),
}
