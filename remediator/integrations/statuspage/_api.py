"""The three calls to a status page: what is open, open one, change one.

Source: Atlassian Statuspage, "REST API reference", incidents: ``GET /v1/pages/{page}/incidents/unresolved``,
``POST /v1/pages/{page}/incidents`` (201), ``PATCH /v1/pages/{page}/incidents/{id}`` (200); 401, 403, 404, 422 for what
is wrong, 420 and 429 for too many requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from remediator.action import canonical_json
from remediator.errors import TemporaryError
from remediator.integrations._body import parse_json
from remediator.integrations._client import Answer, Unanswered
from remediator.integrations._notice import refusal
from remediator.integrations._secret import read_secret
from remediator.integrations.statuspage.target import StatuspageTarget

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


async def _ask(
    target: StatuspageTarget, method: str, path: str, body: Any = None, check: Callable[[], None] | None = None
) -> Answer:
    headers = {"Authorization": f"OAuth {read_secret(target.api_key_file, 'api_key_file')}"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = canonical_json(body).encode()
    return await target.send(method, f"/v1/pages/{target.page}{path}", headers=headers, body=data, check=check)


async def ours(target: StatuspageTarget, service: str) -> Mapping[str, Any] | None:
    """The open incident that we keep about ``service``, or None. Raises TemporaryError, PermanentError."""
    try:
        answer = await _ask(target, "GET", "/incidents/unresolved")
        if answer.status != 200:
            raise refusal(f"the status page answered {answer.status}", answer)
        found = parse_json(answer.body)
        if answer.truncated or answer.broken or not isinstance(found, list):
            raise ValueError("the list of open incidents cannot be read")
    except (Unanswered, ValueError) as error:
        raise TemporaryError(f"the status page cannot be read: {error}", reason="unanswered") from error
    for incident in found:
        if not isinstance(incident, dict) or _ID.fullmatch(str(incident.get("id"))) is None:
            continue
        metadata = incident.get("metadata")
        mark = metadata.get("remediator") if isinstance(metadata, dict) else None
        if isinstance(mark, dict) and mark.get("service") == service:
            return incident
    return None


async def write(
    target: StatuspageTarget, incident_id: str | None, incident: Mapping[str, Any], check: Callable[[], None]
) -> str:
    """Open an incident, or change the one of that id; its id. Raises as ``Action.apply`` does."""
    method, path = ("POST", "/incidents") if incident_id is None else ("PATCH", f"/incidents/{incident_id}")
    answer = await _ask(target, method, path, {"incident": incident}, check)
    if answer.status not in (200, 201):
        raise refusal(f"the status page answered {answer.status}", answer)
    try:
        data = parse_json(answer.body)
    except ValueError:
        data = None
    made = str(data.get("id", "")) if isinstance(data, dict) else ""
    return made or incident_id or ""
