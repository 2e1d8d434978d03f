"""``http.patch``: change a part of what a service keeps."""

from __future__ import annotations

from typing import ClassVar

from remediator.action import Effect
from remediator.integrations.http._send import Send


class Patch(Send):
    """Sends one PATCH, with a JSON body if there is one, and expects a status that says it was done.

    RFC 5789 calls PATCH neither safe nor idempotent, so it is not repeated unless the rule says that it may be.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    method: ClassVar[str] = "PATCH"
