"""A small SMTP server on loopback that keeps what it took, and can refuse, hang or break off at any point."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

USER, PASSWORD = "remediator", "correct horse battery"


@dataclass(frozen=True)
class Mail:
    """A mail that the server answered for."""

    sender: str
    recipients: list[str]
    content: bytes
    encrypted: bool


@dataclass
class MailServer:
    """What it does. ``says`` maps a command to the reply that is given instead."""

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    auth: str = ""
    says: dict[str, str] = field(default_factory=dict)
    refuse: set[str] = field(default_factory=set)
    injects: bytes = b""
    mails: list[Mail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    port: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    HANG = "hang"
    DROP = "drop"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, EOFError):
            await _Conversation(self, reader, writer).go()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


class _Conversation:
    def __init__(self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.encrypted, self.let_in = server.implicit, not server.auth
        self.sender, self.recipients = "", list[str]()

    async def say(self, text: str) -> None:
        if text == MailServer.HANG:
            await self.reader.read()
            raise EOFError
        if text == MailServer.DROP:
            raise EOFError
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def line(self) -> str:
        data = await self.reader.readuntil(b"\r\n")
        return data.decode("ascii").removesuffix("\r\n")

    async def go(self) -> None:
        await self.say(self.server.says.get("", "220 mail.example.com ESMTP"))
        while True:
            line = await self.line()
            self.server.commands.append(line)
            word = line.upper().split(":")[0].split(" ")[0]
            if word == "QUIT":
                await self.say("221 bye")
                return
            if word in self.server.says:
                await self.say(self.server.says[word])
                continue
            await getattr(self, f"on_{word.lower()}")(line)

    async def on_ehlo(self, line: str) -> None:
        offers = ["mail.example.com", "8BITMIME", "SIZE 10485760"]
        if self.server.tls is not None and not self.encrypted:
            offers.append("STARTTLS")
        if self.server.auth and self.encrypted:
            offers.append(f"AUTH {self.server.auth}")
        for offer in offers[:-1]:
            await self.say(f"250-{offer}")
        await self.say(f"250 {offers[-1]}")

    async def on_starttls(self, line: str) -> None:
        self.writer.write(b"220 go ahead\r\n" + self.server.injects)
        await self.writer.drain()
        assert self.server.tls is not None
        await self.writer.start_tls(self.server.tls)
        self.encrypted = True

    async def on_auth(self, line: str) -> None:
        if line.startswith("AUTH PLAIN "):
            given = base64.b64decode(line.split(" ")[2]).decode().split("\0")[1:]
        else:
            given = []
            for question in ("VXNlcm5hbWU6", "UGFzc3dvcmQ6"):
                await self.say(f"334 {question}")
                given.append(base64.b64decode(await self.line()).decode())
        self.let_in = given == [USER, PASSWORD]
        await self.say("235 welcome" if self.let_in else "535 5.7.8 authentication credentials invalid")

    async def on_mail(self, line: str) -> None:
        if not self.let_in:
            await self.say("530 5.7.0 authentication required")
            return
        self.sender = line.partition("<")[2].partition(">")[0]
        await self.say("250 ok")

    async def on_rcpt(self, line: str) -> None:
        recipient = line.partition("<")[2].partition(">")[0]
        if recipient in self.server.refuse:
            await self.say("550 5.1.1 no such user")
            return
        self.recipients.append(recipient)
        await self.say("250 ok")

    async def on_data(self, line: str) -> None:
        await self.say("354 end with a dot")
        content = await self.reader.readuntil(b"\r\n.\r\n")
        verdict = self.server.says.get(".", "250 2.0.0 queued as 4711")
        if verdict.startswith("250"):
            text = content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
            self.server.mails.append(Mail(self.sender, self.recipients, text, self.encrypted))
        await self.say(verdict)


@contextlib.asynccontextmanager
async def mail_server(server: MailServer | None = None) -> AsyncIterator[MailServer]:
    """A running mail server."""
    it = server or MailServer()
    context = it.tls if it.implicit else None
    running = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=context, limit=2**22)
    it.port = running.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        running.close()
        await running.wait_closed()
        if it.tasks:
            await asyncio.wait(it.tasks, timeout=5)
