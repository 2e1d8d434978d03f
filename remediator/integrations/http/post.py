"""``http.post``: make a service do something through its HTTP API."""

from __future__ import annotations

from typing import ClassVar

from remediator.action import Effect
from remediator.integrations.http._send import Send


class Post(Send):
    """Sends one POST, with a JSON body if there is one, and expects a status that says it was done.

    Each request carries the key of its step in the target's idempotency header, the same on every attempt.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    method: ClassVar[str] = "POST"
