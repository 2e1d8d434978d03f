"""A sender of one mail over SMTP that knows at every moment whether the server may have taken it.

Sources: RFC 5321 (SMTP; section 6.1: who says 250 to the final dot is responsible for the mail), RFC 3207 (STARTTLS),
RFC 4954 (AUTH), RFC 6152 (8BITMIME). The library of the standard blocks a thread that nobody can stop, and does not
tell a mail that was never sent from one that may have been; for an effect both matter.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.excerpt import one_line, shorten
from remediator.integrations._address import ForbiddenAddress, SafeResolver
from remediator.integrations._client import Unanswered

_LINE = 4096
_LINES = 100
_GOODBYE = 1.0
_REPLY = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n]*))?\r?\n")


class Reply(NamedTuple):
    """What the server said: its code, and its words."""

    code: int
    text: str


def refused(said: str, reply: Reply) -> ActionError:
    """The word for a reply that is no yes (RFC 5321 section 4.2.1): 4yz later, 5yz never."""
    message = f"{said}: {reply.code} {shorten(one_line(reply.text), 300)}"
    kind = TemporaryError if 400 <= reply.code < 500 else PermanentError
    return kind(message, reason=f"smtp_{reply.code}")


class Session:
    """One connection to a server. ``async with`` opens it; leaving hangs up."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, starttls: bool) -> None:
        self._host, self._port = host, port
        self._tls, self._starttls = tls, starttls
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._offers: dict[str, str] = {}

    async def open(self, name: str) -> None:
        """Connect, greet as ``name``, and encrypt. Raises TemporaryError, PermanentError."""
        try:
            addresses = await SafeResolver().resolve(self._host, self._port)
            first = None if self._starttls else self._tls
            self._reader, self._writer = await asyncio.open_connection(
                addresses[0]["host"],
                self._port,
                ssl=first,
                server_hostname=self._host if first else None,
                limit=_LINE,
            )
        except ForbiddenAddress as error:
            raise PermanentError(f"{self._host}: {error.strerror}", reason="address") from None
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(f"{self._host}: the certificate is not trusted: {error}", reason="tls") from None
        except OSError as error:
            detail = error.strerror or type(error).__name__
            raise TemporaryError(f"no connection to {self._host}:{self._port} ({detail})", reason="connect") from None
        greeting = await self._reply()
        if greeting.code != 220:
            raise refused(f"{self._host} does not serve", greeting)
        await self._hello(name)
        if self._starttls:
            await self._encrypt(name)

    async def _hello(self, name: str) -> None:
        reply = await self.ask(f"EHLO {name}")
        if reply.code != 250:
            raise refused(f"{self._host} does not answer EHLO", reply)
        words = [line.partition(" ") for line in reply.text.split("\n")[1:]]
        self._offers = {word.upper(): more.upper() for word, _, more in words}

    async def _encrypt(self, name: str) -> None:
        """No fallback: who leaves STARTTLS out of the answer would read the mail."""
        if "STARTTLS" not in self._offers or self._tls is None:
            raise PermanentError(f"{self._host} offers no STARTTLS, and without it nothing is sent", reason="tls")
        reply = await self.ask("STARTTLS")
        if reply.code != 220:
            raise refused(f"{self._host} does not begin TLS", reply)
        # What was sent ahead of the encryption was not said by the server (CVE-2011-0411); StreamReader keeps it.
        if self._reader._buffer:  # type: ignore[attr-defined]  # no public way to see what was read too early
            raise PermanentError(f"{self._host} spoke before TLS began; nothing is sent", reason="tls")
        try:
            await self._writer.start_tls(self._tls, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(f"{self._host}: the certificate is not trusted: {error}", reason="tls") from None
        except OSError as error:
            raise TemporaryError(f"{self._host}: TLS did not begin ({type(error).__name__})", reason="tls") from None
        await self._hello(name)

    async def login(self, username: str, password: str) -> None:
        """AUTH PLAIN or LOGIN. Raises TemporaryError, PermanentError; neither holds the password."""
        offered = self._offers.get("AUTH", "").split()
        if "PLAIN" in offered:
            secret = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
            reply = await self.ask(f"AUTH PLAIN {secret}")
        elif "LOGIN" in offered:
            reply = await self.ask("AUTH LOGIN")
            for word in (username, password):
                if reply.code == 334:
                    reply = await self.ask(base64.b64encode(word.encode()).decode())
        else:
            raise PermanentError(f"{self._host} offers neither AUTH PLAIN nor LOGIN", reason="auth")
        if reply.code != 235:
            raise refused(f"{self._host} does not let {username} in", reply)

    async def deliver(
        self, sender: str, recipients: Sequence[str], content: bytes, check: Callable[[], None]
    ) -> tuple[str, dict[str, str]]:
        """Hand over a mail; what the server said, and which recipients it refused, with its words.

        ``check`` runs right before the first byte of the content and may raise. Raises TemporaryError or
        PermanentError where the server certainly did not take it, Unanswered where it may have.
        """
        reply = await self.ask(f"MAIL FROM:<{sender}>" + (" BODY=8BITMIME" if "8BITMIME" in self._offers else ""))
        if reply.code != 250:
            raise refused(f"{self._host} takes no mail from {sender}", reply)
        no: dict[str, Reply] = {}
        for recipient in recipients:
            reply = await self.ask(f"RCPT TO:<{recipient}>")
            if reply.code not in (250, 251):
                no[recipient] = reply
        if len(no) == len(recipients):
            # If one of them may be served later, trying again makes sense.
            worst = min(no.items(), key=lambda each: each[1].code)
            raise refused(f"{self._host} takes no mail for {worst[0]}", worst[1])
        reply = await self.ask("DATA")
        if reply.code != 354:
            raise refused(f"{self._host} takes no content", reply)
        check()
        reply = await self._content(content)
        if reply.code != 250:
            raise refused(f"{self._host} did not take the mail", reply)
        return one_line(reply.text), {name: f"{said.code} {one_line(said.text)}" for name, said in no.items()}

    async def _content(self, content: bytes) -> Reply:
        # A line that is a single dot would end the mail early; RFC 5321 section 4.5.2 doubles leading dots.
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        try:
            self._writer.write(stuffed + b".\r\n")
            await self._writer.drain()
            return await self._reply()
        except (TemporaryError, PermanentError, OSError) as error:
            raise Unanswered(f"{self._host} may have taken the mail, but did not say so: {error}") from error

    async def ask(self, line: str) -> Reply:
        """Send one command. Raises TemporaryError where the connection is gone."""
        if not line.isascii() or not line.isprintable():
            raise PermanentError("an SMTP command is one line of printable ASCII", reason="command")
        try:
            self._writer.write(line.encode() + b"\r\n")
            await self._writer.drain()
        except OSError as error:
            raise TemporaryError(f"{self._host} hung up ({type(error).__name__})", reason="connect") from None
        return await self._reply()

    async def _reply(self) -> Reply:
        texts: list[str] = []
        for _ in range(_LINES):
            try:
                line = await self._reader.readline()
            except (OSError, ValueError) as error:
                raise TemporaryError(f"{self._host} hung up ({type(error).__name__})", reason="connect") from None
            found = _REPLY.fullmatch(line)
            if found is None:
                what = "hung up" if not line else "does not speak SMTP"
                raise TemporaryError(f"{self._host} {what}", reason="connect")
            texts.append((found[3] or b"").decode(errors="replace"))
            if found[2] != b"-":
                return Reply(int(found[1]), "\n".join(texts))
        raise TemporaryError(f"{self._host} talks without end", reason="connect")

    async def close(self) -> None:
        """Hang up; QUIT is a courtesy that nobody waits for."""
        if not hasattr(self, "_writer"):
            return
        try:
            async with asyncio.timeout(_GOODBYE):
                self._writer.write(b"QUIT\r\n")
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
