"""``http.get``: ask a service something and keep its answer as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._body import readable
from remediator.integrations._client import Unanswered
from remediator.integrations.http._json_path import JsonPath, look_up
from remediator.integrations.http._path import Path, Query, plain_path, with_query
from remediator.integrations.http.target import HttpTarget
from remediator.probe import Probe, ProbeContext

_TRIES, _BETWEEN = 3, 1.0
"""How often, and with how many seconds in between, somebody is asked before silence counts as down."""


class Get(Probe[HttpTarget]):
    """Sends one GET and returns status, body and duration. Any status but a redirect is evidence, also 500."""

    path: Path = Field(description="Path below the target's base_url, such as `/health/detailed`.")
    query: Query = Field(default_factory=dict, description="Query parameters, as plain text.")
    json_path: JsonPath | None = Field(
        default=None, description="A place in the JSON answer, such as `queue.in_flight`, to be found as `value`."
    )

    silence: Literal["unknown", "down"] = Field(
        default="unknown",
        description="What it means that nobody answers: `unknown`, a failed probe; or `down`, which is evidence after "
        "three tries: `up` is false.",
    )

    def needs(self) -> Mapping[str, str]:
        """The path must be permitted."""
        return {"paths": plain_path(self.path)}

    async def read(self, target: HttpTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The answer as evidence.

        Raises TemporaryError without an answer, unless that is what is looked for, PermanentError on a redirect.
        """
        if self.silence == "unknown":
            return await self._look(target, context)
        error = TemporaryError("nobody asked")
        for attempt in range(_TRIES):
            await asyncio.sleep(_BETWEEN if attempt else 0.0)
            try:
                evidence = await self._look(target, context)
            except TemporaryError as raised:
                error = raised
            else:
                return {**evidence, "up": evidence["status"] < 500}
        return {"up": False, "status": 0, "error": str(error)}

    async def _look(self, target: HttpTarget, context: ProbeContext) -> dict[str, Any]:
        began = context.clock.monotonic()
        try:
            answer = await target.send("GET", with_query(self.path, self.query), headers=target.headers)
        except Unanswered as error:
            raise TemporaryError(str(error), reason="unanswered") from error
        if answer.broken:
            raise TemporaryError(f"the answer to GET {self.path} broke off", reason="unanswered")
        if 300 <= answer.status < 400:
            raise PermanentError(
                f"GET {self.path} answered {answer.status}, a redirect, which is not followed; "
                "write the final address as base_url and path",
                reason="redirect",
            )
        evidence = {
            "status": answer.status,
            "headers": {"content-type": answer.content_type},
            "seconds": round(context.clock.monotonic() - began, 6),
            **readable(answer),
        }
        if self.json_path is not None:
            # Without the key a condition on it is an error and so a no; null would compare.
            found, value = look_up(evidence["json"], self.json_path)
            evidence |= {"found": found, **({"value": value} if found else {})}
        return evidence
