"""``email.send``: a mail to people."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.clock import format_duration
from remediator.errors import PermanentError, TemporaryError
from remediator.excerpt import shorten
from remediator.integrations._client import Unanswered
from remediator.integrations._notice import Line, Text
from remediator.integrations._secret import read_secret
from remediator.integrations.email._smtp import Session
from remediator.integrations.email.target import EmailTarget, Mailbox

_SUBJECT = 200
_TEXT = 100_000


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Send(Action[EmailTarget]):
    """Sends one plain-text mail. Line ends in a subject become spaces, so that no header can be slipped in."""

    effect: ClassVar[Effect] = Effect.KEYED

    to: Annotated[list[Mailbox], BeforeValidator(_listed)] = Field(
        min_length=1, max_length=50, description="An address, or a list of addresses; all see each other."
    )
    title: Line = Field(min_length=1, description="The subject of the mail; cut to 200 characters.")
    text: Text = Field(description="What the mail says; cut to 100,000 characters.")

    def needs(self) -> Mapping[str, str]:
        """Each recipient must be permitted; the others are asked for when the change is made."""
        return {"recipients": self.to[0]}

    def _content(self, target: EmailTarget) -> dict[str, Any]:
        for address in self.to:
            refusal = target.refusal("email.send", {"recipients": address})
            if refusal is not None:
                raise PermanentError(refusal, reason="not_permitted")
        return {
            "from": target.from_,
            "to": list(self.to),
            "subject": shorten(self.title, _SUBJECT),
            "text": shorten(self.text, _TEXT),
        }

    async def diff(self, target: EmailTarget, context: ActionContext) -> Change:
        """The mail that would be sent; it is never empty, because nobody can look into a mailbox."""
        content = self._content(target)
        return Change(summary=f"mail to {', '.join(self.to)}: {content['subject']}", before={}, after=content)

    def _mail(self, target: EmailTarget, change: Change, context: ActionContext) -> bytes:
        mail = EmailMessage(policy=policy.SMTP)
        mail["From"] = target.from_
        mail["To"] = ", ".join(self.to)
        if target.reply_to is not None:
            mail["Reply-To"] = target.reply_to
        mail["Subject"] = change.after["subject"]
        mail["Date"] = format_datetime(datetime.fromtimestamp(context.clock.now(), UTC))
        # The same on every attempt: mail systems that drop copies know a copy by it.
        mail["Message-ID"] = f"<{context.key}@{target.from_.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices in answer, please.
        mail.set_content(change.after["text"], charset="utf-8", cte="base64")
        return mail.as_bytes()

    async def apply(self, target: EmailTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) where the server may have taken it and did not say so."""
        if dict(change.after) != self._content(target):
            raise PermanentError("the mail is no longer the one that was shown", reason="changed")
        sending = _Sending()
        try:
            async with asyncio.timeout(target.timeout):
                said, refused = await sending.carry_out(target, self.to, self._mail(target, change, context), context)
        except TimeoutError:
            message = f"{target.host} did not answer within {format_duration(target.timeout)}"
            if sending.begun:
                raise Unanswered(f"{message}; it may have taken the mail") from None
            raise TemporaryError(f"{message}; nothing was sent", reason="connect") from None
        told = f", but not for {', '.join(refused)}" if refused else f" for {', '.join(self.to)}"
        return Outcome(summary=f"{target.host} took the mail{told}", data={"said": said, "refused": refused})


class _Sending:
    """One mail on its way; ``begun`` once its content may have left."""

    def __init__(self) -> None:
        self.begun = False

    async def carry_out(
        self, target: EmailTarget, to: list[str], content: bytes, context: ActionContext
    ) -> tuple[str, dict[str, str]]:
        """Connect, log in, hand over, hang up."""

        def check() -> None:
            context.check_deadline()
            self.begun = True

        host, port = target.address
        session = Session(host, port, tls=_context(target), starttls=target.security == "starttls")
        try:
            await session.open(_name())
            if target.username is not None and target.password_file is not None:
                await session.login(target.username, read_secret(target.password_file, "password_file"))
            return await session.deliver(target.from_, to, content, check)
        finally:
            await session.close()


def _context(target: EmailTarget) -> ssl.SSLContext | None:
    if target.security == "none":
        return None
    try:
        return ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:
        raise PermanentError(f"ca_file {target.ca_file} cannot be used: {error}", reason="tls") from None


def _name() -> str:
    """Who says hello: the host's name where it is one, else the address literal of RFC 5321 section 4.1.3."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "[127.0.0.1]"
