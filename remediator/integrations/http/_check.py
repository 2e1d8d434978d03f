"""What a GET shows of the state that a request changes: whether it is as wanted, and whether it still is as it was."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from remediator.action import canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._body import readable
from remediator.integrations._client import Unanswered
from remediator.integrations.http._json_path import JsonPath, look_up
from remediator.integrations.http._path import Path, Query, plain_path, with_query
from remediator.integrations.http.target import HttpTarget

_LONGEST = 4096


class Check(BaseModel):
    """One GET and what it should show: a value inside the JSON answer, or the status alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Path = Field(description="Path of the GET.")
    query: Query = Field(default_factory=dict, description="Query parameters of the GET.")
    json_path: JsonPath | None = Field(default=None, description="Where in the JSON answer to look: `queue.paused`.")
    equals: JsonValue = Field(default=None, description="The value that should be there.")
    status: int | None = Field(default=None, ge=200, le=499, description="The status that should come, such as 404.")

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        inside = self.json_path is not None and self.status is None and "equals" in self.model_fields_set
        status = self.status is not None and self.json_path is None and self.equals is None
        if not (inside or status):
            raise ValueError("write json_path with equals, or status")
        return self

    @property
    def wanted(self) -> str:
        """What ``seen`` returns when the state is as this check says, as JSON text."""
        return canonical_json(self.equals if self.status is None else self.status)

    async def seen(self, target: HttpTarget) -> str:
        """What the GET shows now, as JSON text; empty where there is nothing at ``json_path``.

        Text, because Python takes 1 and true for the same. Raises TemporaryError, PermanentError.
        """
        refusal = target.refusal("http.get", {"paths": plain_path(self.path)})
        if refusal is not None:
            raise PermanentError(refusal, reason="permit")
        try:
            answer = await target.send("GET", with_query(self.path, self.query), headers=target.headers)
        except Unanswered as error:
            raise TemporaryError(str(error), reason="unanswered") from error
        if self.json_path is None:
            return canonical_json(answer.status)
        said = f"GET {self.path} answered {answer.status}"
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise TemporaryError(said, reason=f"status_{answer.status}")
        if not 200 <= answer.status < 300:
            raise PermanentError(said, reason=f"status_{answer.status}")
        value = readable(answer)["json"]
        if value is None:
            raise TemporaryError(f"{said} without JSON that can be read", reason="not_json")
        found, inside = look_up(value, self.json_path)
        seen = canonical_json(inside) if found else ""
        if len(seen) > _LONGEST:
            raise PermanentError(f"what {self.json_path} holds is too long to compare", reason="too_long")
        return seen

    def equal_to(self, seen: str) -> Check | None:
        """The same look for what was ``seen`` once; None where nothing was there."""
        if not seen:
            return None
        value: Any = json.loads(seen)
        fields = {"path": self.path, "query": self.query}
        return Check.model_validate(
            {**fields, "status": value}
            if self.json_path is None
            else {**fields, "json_path": self.json_path, "equals": value}
        )
