"""``http.put``: replace what a service keeps at one path."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.action import Effect
from remediator.integrations.http._send import Send


class Put(Send):
    """Sends one PUT, with a JSON body if there is one, and expects a status that says it was done.

    PUT is idempotent (RFC 9110 section 9.2.2), so it is repeated after a crash unless the rule says otherwise.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    method: ClassVar[str] = "PUT"

    idempotent: bool = Field(default=True, description="False if this service does more when it is sent twice.")
