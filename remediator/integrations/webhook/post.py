"""``webhook.post``: tell a program something as JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, JsonValue, field_validator

from remediator.action import Action, ActionContext, Change, Effect, Outcome, canonical_json
from remediator.errors import PermanentError
from remediator.integrations._notice import refusal
from remediator.integrations._secret import read_secret
from remediator.integrations.http._path import Path, plain_path
from remediator.integrations.webhook.target import WebhookTarget

_LIMIT = 1_000_000


def signature(secret: str, key: str, at: int, body: bytes) -> str:
    """The value of ``webhook-signature`` (Standard Webhooks 1.0, "Signature scheme", symmetric)."""
    raw = secret.encode()
    if secret.startswith("whsec_"):
        try:
            raw = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise PermanentError("signing_secret_file: what follows whsec_ is not base64", reason="secret") from None
    made = hmac.new(raw, f"{key}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(made).decode()


class Post(Action[WebhookTarget]):
    """Posts a JSON body. ``webhook-id`` is the key of the step on every attempt, so a receiver can drop copies."""

    effect: ClassVar[Effect] = Effect.KEYED

    path: Path = Field(default="/", description="Path below the target's base_url, such as `/hooks/oncall`.")
    body: JsonValue = Field(alias="json", description="The JSON body.")

    @field_validator("body")
    @classmethod
    def _body(cls, body: JsonValue) -> JsonValue:
        try:
            size = len(canonical_json(body).encode())
        except (ValueError, RecursionError):
            raise ValueError("json must be valid JSON: no NaN, no infinity, valid Unicode") from None
        if size > _LIMIT:
            raise ValueError(f"json has {size} bytes, and a body may have {_LIMIT}")
        return body

    def needs(self) -> Mapping[str, str]:
        """The path must be permitted."""
        return {"paths": plain_path(self.path)}

    def subject(self) -> str:
        """The path: news to one place keep their order."""
        return plain_path(self.path)

    def _request(self, target: WebhookTarget) -> dict[str, Any]:
        return {"url": target.base_url + self.path, "json": self.body}

    async def diff(self, target: WebhookTarget, context: ActionContext) -> Change:
        """What would be posted; it is never empty, because a receiver cannot be asked what it knows."""
        return Change(summary=f"tell {target.base_url}{self.path}", before={}, after=self._request(target))

    async def apply(self, target: WebhookTarget, change: Change, context: ActionContext) -> Outcome:
        """Post it. Raises Unanswered (unknown) where the receiver may have taken it and did not say so."""
        if dict(change.after) != self._request(target):
            raise PermanentError("the body is no longer the one that was shown", reason="changed")
        body = canonical_json(self.body).encode()
        at = int(context.clock.now())
        headers = {"Content-Type": "application/json", "webhook-id": context.key, "webhook-timestamp": str(at)}
        if target.signing_secret_file is not None:
            secret = read_secret(target.signing_secret_file, "signing_secret_file")
            headers["webhook-signature"] = signature(secret, context.key, at, body)
        answer = await target.send("POST", self.path, headers=headers, body=body, check=context.check_deadline)
        if not 200 <= answer.status < 300:
            raise refusal(f"{target.base_url}{self.path} answered {answer.status}", answer)
        return Outcome(summary=f"{self.path} answered {answer.status}", data={"status": answer.status})
