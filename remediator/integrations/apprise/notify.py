"""``apprise.notify``: a message through any of the services that Apprise knows."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.clock import format_duration
from remediator.errors import PermanentError
from remediator.excerpt import shorten
from remediator.integrations._client import Unanswered
from remediator.integrations._notice import Line, Text
from remediator.integrations._secret import read_secret
from remediator.integrations.apprise.target import AppriseTarget

_TITLE = 250
_TEXT = 30_000


class Notify(Action[AppriseTarget]):
    """Sends a title and a text as plain text to one address of the target."""

    effect: ClassVar[Effect] = Effect.KEYED

    to: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$", description="A recipient of the target.")
    text: Text = Field(min_length=1, description="What the message says; cut to 30,000 characters.")
    title: Line = Field(default="", description="Its headline; cut to 250 characters.")
    kind: Literal["info", "success", "warning", "failure"] = Field(
        default="warning", description="How services that can show it colour the message."
    )

    def needs(self) -> Mapping[str, str]:
        """The recipient must be permitted."""
        return {"recipients": self.to}

    def subject(self) -> str:
        """The recipient: messages to one place keep their order."""
        return f"recipient/{self.to}"

    def _content(self, target: AppriseTarget) -> dict[str, Any]:
        if self.to not in target.recipients:
            names = ", ".join(target.recipients)
            message = f'target "{target.name}" has no recipient "{self.to}" (there are: {names})'
            raise PermanentError(message, reason="recipient")
        return {
            "to": self.to,
            "title": shorten(self.title, _TITLE),
            "text": shorten(self.text, _TEXT),
            "kind": self.kind,
        }

    async def diff(self, target: AppriseTarget, context: ActionContext) -> Change:
        """The message that would be sent; it is never empty, because Apprise only sends."""
        content = self._content(target)
        said = shorten(content["title"] or content["text"], 120)
        return Change(summary=f"message to {self.to}: {said}", before={}, after=content)

    async def apply(self, target: AppriseTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Apprise says yes or no, and a no may come after it was sent: any no is unknown and sent again."""
        if dict(change.after) != self._content(target):
            raise PermanentError("the message is no longer the one that was shown", reason="changed")
        url = read_secret(target.recipients[self.to].url_file, f"recipients.{self.to}.url_file")
        # Its plug-ins take a second to load, and everybody would wait for them.
        sender = await asyncio.to_thread(_sender, url, self.to)
        context.check_deadline()
        try:
            async with asyncio.timeout(target.timeout):
                sent = await sender.async_notify(
                    body=change.after["text"],
                    title=change.after["title"],
                    notify_type=self.kind,
                    body_format="text",
                    interpret_escapes=False,
                )
        except TimeoutError:
            within = format_duration(target.timeout)
            raise Unanswered(f"sending to {self.to} did not end within {within}") from None
        if not sent:
            raise Unanswered(f"Apprise could not say that {self.to} has the message")
        return Outcome(summary=f"Apprise sent the message to {self.to}")


def _sender(url: str, name: str) -> Any:
    """The library with one address. Raises PermanentError where it is not installed or does not know the address."""
    with warnings.catch_warnings():
        # Its plug-ins import modules of the standard library that are on their way out.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import apprise
        except ImportError:
            raise PermanentError(
                "Apprise is not installed; install it with: pip install 'remediator[apprise]'", reason="not_installed"
            ) from None
        # No attachments from files and no storage on disk: it sends text and nothing else.
        asset = apprise.AppriseAsset(async_mode=True, storage_mode="memory", app_id="Remediator", app_url="")
        sender = apprise.Apprise(asset=asset)
        if not sender.add(url):
            raise PermanentError(f"Apprise does not understand the address of {name}", reason="address")
    return sender
