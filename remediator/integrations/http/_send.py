"""What all requests that change something have in common: what is sent, seen, taken back and known afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome, canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._body import readable
from remediator.integrations._client import Answer, Unanswered
from remediator.integrations.http._check import Check
from remediator.integrations.http._path import Path, Query, plain_path, with_query
from remediator.integrations.http.target import HttpTarget

# Refusals that RFC 9110 and RFC 6585 define as "not carried out, come back later".
_REFUSED_FOR_NOW = frozenset({408, 425, 429})
# 302 and 303 are how many services answer a request that they did carry out, so they prove nothing.
_MOVED = frozenset({300, 301, 304, 305, 307, 308})


def _json_body(body: JsonValue) -> JsonValue:
    try:
        canonical_json(body).encode()
    except (ValueError, RecursionError):
        raise ValueError("json must be valid JSON: no NaN, no infinity, valid Unicode") from None
    return body


class Undo(BaseModel):
    """The request that takes another one back."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Literal["post", "put", "patch", "delete"] = Field(default="post", description="Its method.")
    path: Path = Field(description="Its path.")
    query: Query = Field(default_factory=dict, description="Its query parameters.")
    body: JsonValue = Field(default=None, alias="json", description="Its JSON body.")

    _body = field_validator("body")(_json_body)


class Send(Action[HttpTarget]):
    """One request with a method that changes something. Subclasses are the methods."""

    effect: ClassVar[Effect] = Effect.ONCE
    literal: ClassVar[frozenset[str]] = frozenset({"expect", "idempotent", "keyed"})
    method: ClassVar[str]

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
    check: Check | None = Field(
        default=None,
        description="What a GET shows when it is done: `path`, and `json_path` with `equals`, or `status`. "
        "Nothing is sent when it shows that already.",
    )
    still: Check | None = Field(
        default=None, description="What a GET must show for the request to be sent, written as `check` is."
    )
    undo: Undo | None = Field(
        default=None, description="The request that takes it back: `method` (post), `path`, `query`, `json`."
    )

    _body = field_validator("body")(_json_body)

    @field_validator("expect")
    @classmethod
    def _expect(cls, statuses: list[int] | None) -> list[int] | None:
        if statuses and not all(200 <= status <= 499 for status in statuses):
            raise ValueError("expect lists statuses from 200 to 499")
        return statuses

    @model_validator(mode="after")
    def _one_effect(self) -> Send:
        if self.idempotent and self.keyed:
            raise ValueError("write idempotent or keyed, not both: each says how to go on after a crash")
        return self

    def effect_on(self, target: HttpTarget) -> Effect:
        """What the rule's author says about repeating the request; else whether it can be seen, or ``once``."""
        if self.idempotent:
            return Effect.IDEMPOTENT
        if self.keyed:
            return Effect.KEYED
        return Effect.ONCE if self.check is None else Effect.PROBE

    def needs(self) -> Mapping[str, str]:
        """The path must be permitted."""
        return {"paths": plain_path(self.path)}

    def _request(self, target: HttpTarget) -> dict[str, Any]:
        return {
            "method": self.method,
            "url": target.base_url + self.path,
            "query": dict(self.query),
            "json": self.body,
        }

    async def diff(self, target: HttpTarget, context: ActionContext) -> Change:
        """The request that would be sent, and with ``check`` what is seen before and wanted after it.

        Raises TemporaryError, and PermanentError where ``still`` does not hold or the way back is not permitted.
        """
        request, summary = self._request(target), f"{self.method} {target.base_url}{self.path}"
        if self.undo is not None:
            # Nothing is done that could not be taken back when its time is over.
            refusal = target.refusal(f"http.{self.undo.method}", {"paths": plain_path(self.undo.path)})
            if refusal is not None:
                raise PermanentError(f"the way back is not open: {refusal}", reason="permit")
        if self.check is None:
            await self._must_still(target)
            return Change(summary=summary, before={}, after=request)
        seen = await self.check.seen(target)
        if seen != self.check.wanted:
            await self._must_still(target)
        return Change(summary=summary, before={**request, "seen": seen}, after={**request, "seen": self.check.wanted})

    async def _must_still(self, target: HttpTarget) -> None:
        if self.still is not None and (seen := await self.still.seen(target)) != self.still.wanted:
            raise PermanentError(
                f"GET {self.still.path} shows {seen[:200] or 'nothing'} and not the {self.still.wanted[:200]} "
                "that this request is made for",
                reason="changed",
            )

    async def apply(self, target: HttpTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) when the service may have carried it out and did not say so."""
        if {key: value for key, value in change.after.items() if key != "seen"} != self._request(target):
            raise PermanentError("the request is no longer the one that was shown", reason="changed")
        await self._must_still(target)
        headers = {**target.headers, target.idempotency_header: context.key}
        body = None
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            body = canonical_json(self.body).encode()
        answer = await target.send(
            self.method, with_query(self.path, self.query), headers=headers, body=body, check=context.check_deadline
        )
        done = answer.status in self.expect if self.expect else 200 <= answer.status < 300
        if not done:
            raise self._failure(answer)
        return Outcome(
            summary=f"{self.method} {self.path} answered {answer.status}",
            data={"status": answer.status, **readable(answer)},
        )

    def _failure(self, answer: Answer) -> Exception:
        """What a status that was not expected says about the effect."""
        status = answer.status
        said = f"{self.method} {self.path} answered {status}"
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

    async def verify(self, target: HttpTarget, change: Change, context: ActionContext) -> None:
        """Returns when ``check`` holds, at once without one. Raises TemporaryError while it does not."""
        if self.check is not None and (seen := await self.check.seen(target)) != self.check.wanted:
            raise TemporaryError(
                f"GET {self.check.path} shows {seen[:200] or 'nothing'} and not yet {self.check.wanted[:200]}",
                reason="not_yet",
            )

    def reversible(self, target: HttpTarget) -> bool:
        """Only with ``undo``."""
        return self.undo is not None

    def inverse(self, change: Change) -> Send | None:
        """The request of ``undo``; with ``check`` only while that still holds, and not if all is as it was.

        Without ``check`` it is sent whatever happened in the meantime. None without ``undo``.
        """
        if self.undo is None:
            return None
        made: dict[str, Any] = self.undo.model_dump(mode="json", by_alias=True, exclude={"method"}, exclude_unset=True)
        if self.check is not None:
            made["still"] = self.check
            if (back := self.check.equal_to(str(change.before["seen"]))) is not None:
                made["check"] = back
        kind: type[Send] = getattr(import_module(f"{__package__}.{self.undo.method}"), self.undo.method.capitalize())
        return kind.model_validate(made)

    async def reconcile(self, target: HttpTarget, change: Change, context: ActionContext) -> Happened:
        """With ``check``: yes if it holds, no if what was seen before is still seen; else unknown."""
        if self.check is None:
            return Happened.UNKNOWN
        seen = await self.check.seen(target)
        if seen == change.after["seen"]:
            return Happened.YES
        return Happened.NO if seen == change.before["seen"] else Happened.UNKNOWN
