"""``http.post``: make a service do something through its HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, JsonValue, field_validator, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Outcome, canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._body import readable
from remediator.integrations._client import Answer, Unanswered
from remediator.integrations.http._path import Path, Query, plain_path, with_query
from remediator.integrations.http.target import HttpTarget

# Refusals that RFC 9110 and RFC 6585 define as "not carried out, come back later".
_REFUSED_FOR_NOW = frozenset({408, 425, 429})
# 302 and 303 are how many services answer a POST that they did carry out, so they prove nothing.
_MOVED = frozenset({300, 301, 304, 305, 307, 308})


class Post(Action[HttpTarget]):
    """Sends one POST, with a JSON body if there is one, and expects a status that says it was done.

    Each request carries the key of its step in the target's idempotency header, the same on every attempt.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    literal: ClassVar[frozenset[str]] = frozenset({"expect", "idempotent", "keyed"})

    path: Path = Field(description="Path below the target's base_url, such as `/admin/queue/pause`.")
    query: Query = Field(default_factory=dict, description="Query parameters, as plain text.")
    body: JsonValue = Field(default=None, alias="json", description="The JSON body; none if absent.")
    expect: list[int] | None = Field(
        default=None,
        min_length=1,
        description="Statuses that mean it was done; 200 to 299 if absent.",
    )
    idempotent: bool = Field(
        default=False, description="True if doing it twice equals doing it once; it is then repeated after a crash."
    )
    keyed: bool = Field(
        default=False,
        description="True if the service drops a second request with the same idempotency key; "
        "it is then sent again after a crash.",
    )

    @field_validator("body")
    @classmethod
    def _body(cls, body: JsonValue) -> JsonValue:
        try:
            canonical_json(body).encode()
        except (ValueError, RecursionError):
            raise ValueError("json must be valid JSON: no NaN, no infinity, valid Unicode") from None
        return body

    @field_validator("expect")
    @classmethod
    def _expect(cls, statuses: list[int] | None) -> list[int] | None:
        if statuses and not all(200 <= status <= 499 for status in statuses):
            raise ValueError("expect lists statuses from 200 to 499")
        return statuses

    @model_validator(mode="after")
    def _one_effect(self) -> Post:
        if self.idempotent and self.keyed:
            raise ValueError("write idempotent or keyed, not both: each says how to go on after a crash")
        return self

    def effect_on(self, target: HttpTarget) -> Effect:
        """What the rule's author says about repeating the request; ``once`` if nothing."""
        if self.idempotent:
            return Effect.IDEMPOTENT
        return Effect.KEYED if self.keyed else Effect.ONCE

    def needs(self) -> Mapping[str, str]:
        """The path must be permitted."""
        return {"paths": plain_path(self.path)}

    def _request(self, target: HttpTarget) -> dict[str, Any]:
        return {
            "method": "POST",
            "url": target.base_url + self.path,
            "query": dict(self.query),
            "json": self.body,
        }

    async def diff(self, target: HttpTarget, context: ActionContext) -> Change:
        """The request that would be sent. A POST cannot be looked at beforehand, so it is never empty."""
        return Change(summary=f"POST {target.base_url}{self.path}", before={}, after=self._request(target))

    async def apply(self, target: HttpTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) when the service may have carried it out and did not say so."""
        if dict(change.after) != self._request(target):
            raise PermanentError("the request is no longer the one that was shown", reason="changed")
        headers = {**target.headers, target.idempotency_header: context.key}
        body = None
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            body = canonical_json(self.body).encode()
        answer = await target.send(
            "POST", with_query(self.path, self.query), headers=headers, body=body, check=context.check_deadline
        )
        done = answer.status in self.expect if self.expect else 200 <= answer.status < 300
        if not done:
            raise self._failure(answer)
        return Outcome(
            summary=f"POST {self.path} answered {answer.status}", data={"status": answer.status, **readable(answer)}
        )

    def _failure(self, answer: Answer) -> Exception:
        """What a status that was not expected says about the effect."""
        status = answer.status
        said = f"POST {self.path} answered {status}"
        if status in _REFUSED_FOR_NOW or (status == 503 and answer.retry_after):
            return TemporaryError(f"{said}: refused for now", reason=f"status_{status}")
        if status in _MOVED:
            return PermanentError(
                f"{said}, a redirect, which is not followed; write the final address as base_url and path",
                reason="redirect",
            )
        if 400 <= status < 500:
            return PermanentError(f"{said}: refused", reason=f"status_{status}")
        return Unanswered(f"{said}, which does not say whether it was carried out")
