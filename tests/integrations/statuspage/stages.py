"""A stand-in for Atlassian Statuspage as its reference describes it, and the stage of its action."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediator.integrations.statuspage.target import StatuspageTarget
from remediator.integrations.statuspage.update import Update
from tests.integrations.arrangements import Stage
from tests.integrations.support import Received, reply, wire

API_KEY = "89a229ce-1a8d-4d2e-9b4e-123456789012"
PAGE = "kctbh9vrtdwd"
_STATES = ("investigating", "identified", "monitoring", "resolved")


@dataclass
class StatusPage:
    """One page and its incidents, newest first."""

    incidents: list[dict[str, Any]] = field(default_factory=list)
    writes: list[dict[str, Any]] = field(default_factory=list)
    instead: list[bytes | None] = field(default_factory=list)
    """Answers to writes that are given instead, each once; None hangs up."""

    def answer(self, request: Received) -> bytes | None:
        """The reference's statuses: 200 and 201, 401, 404, 422."""
        if self.instead and not request.line.startswith(b"GET"):
            return self.instead.pop()
        verb, path, _ = request.line.decode().split(" ")
        if request.headers.get("authorization") != f"OAuth {API_KEY}":
            return reply(401, b'{"error":"Could not authenticate"}')
        if not path.startswith(f"/v1/pages/{PAGE}/incidents"):
            return reply(404, b'{"error":"Not found"}')
        if verb == "GET":
            found = [incident for incident in self.incidents if incident["status"] != "resolved"]
            return reply(200, json.dumps(found).encode())
        given = json.loads(request.body)["incident"]
        if given["status"] not in _STATES or not given["name"] or len(given["body"]) > 25_000:
            return reply(422, b'{"error":["Status is not valid"]}')
        self.writes.append(given)
        if verb == "POST":
            incident: dict[str, Any] = {"id": f"p{len(self.incidents)}", "incident_updates": []}
            self.incidents.insert(0, incident)
        else:
            incident = next(each for each in self.incidents if path.endswith("/" + each["id"]))
        incident |= {key: given[key] for key in ("name", "status", "impact_override", "metadata")}
        incident["impact"] = given["impact_override"]
        incident["incident_updates"].insert(0, {"status": given["status"], "body": given["body"]})
        del incident["incident_updates"][20:]  # Nobody here reads further back.
        return reply(201 if verb == "POST" else 200, json.dumps(incident).encode())


def settings(directory: Path, url: str) -> StatuspageTarget:
    """The page with one service."""
    (directory / "api-key").write_text(API_KEY)
    return StatuspageTarget.model_validate(
        {
            "base_url": url,
            "page": PAGE,
            "api_key_file": str(directory / "api-key"),
            "timeout": "500ms",
            "services": {"minting": {"title": "Minting Service", "components": ["ftgks51sfs2d"]}},
            "permit": {"actions": ["statuspage.update"], "services": ["minting"]},
        }
    )


@asynccontextmanager
async def statuspage_update(directory: Path) -> AsyncIterator[Stage]:
    """An incident on a page that counts what is written."""
    it = StatusPage()
    async with wire(it.answer) as server:
        target = settings(directory, server.url)
        yield Stage(
            action=Update(service="minting", impact="delays"),
            target=target,
            effects=lambda: len(it.writes),
            converges=True,
        )
        await target.close()


STAGES = {"statuspage.update": statuspage_update}
