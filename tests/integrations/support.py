"""What tests of integrations share: contexts with a clock in the test's hand, and a server that records bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from remediator.action import ActionContext
from remediator.ledger import Ledger
from remediator.probe import ProbeContext

WITHOUT = "REMEDIATOR_TESTS_WITHOUT"
"""Names, with spaces between them, of the servers that cannot be had on this machine."""

_NEEDS = {"docker": "compose"}
"""Which integration is not tested without which server."""


def switched_off() -> list[str]:
    """The integrations that are not tested here because somebody said so; nothing is ever left out by itself."""
    named = os.environ.get(WITHOUT, "").split()
    unknown = set(named) - set(_NEEDS)
    if unknown:
        raise ValueError(f"{WITHOUT} may hold {', '.join(_NEEDS)}; it holds {', '.join(sorted(unknown))}")
    return [_NEEDS[name] for name in named]


class HandClock:
    """A clock that stands still until the test moves it."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        """Unix seconds."""
        return self.at

    def monotonic(self) -> float:
        """The same count, for deadlines."""
        return self.at


LEDGERS: list[Ledger] = []
"""The ledger of the stage that is up, if its action spends."""


def acting(clock: HandClock | None = None, *, deadline: float = 60.0, attempt: int = 1) -> ActionContext:
    """The context of a licensed step whose licence runs out ``deadline`` seconds from now."""
    clock = clock or HandClock()
    return ActionContext(
        run_id="run-1",
        step="step0",
        attempt=attempt,
        key="run-1.step0",
        clock=clock,
        deadline=clock.monotonic() + deadline,
        ledger=LEDGERS[-1] if LEDGERS else None,
    )


def looking(clock: HandClock | None = None) -> ProbeContext:
    """The context of a probe."""
    return ProbeContext(run_id="run-1", clock=clock or HandClock())


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    raw: bytes

    @property
    def line(self) -> bytes:
        """``POST /path HTTP/1.1``."""
        return self.raw.partition(b"\r\n")[0]

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> bytes:
        """What follows the head."""
        return self.raw.partition(b"\r\n\r\n")[2]


def reply(status: int = 200, body: bytes = b"{}", content_type: str = "application/json", extra: str = "") -> bytes:
    """An HTTP answer; ``extra`` holds further header lines, each ended by CR LF."""
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{extra}\r\n"
    )
    return head.encode("latin-1") + body


@dataclass
class Wire:
    """A TCP server on loopback that keeps every request byte for byte and answers as the test says.

    ``answer`` gets the request and returns the bytes of the answer; None closes the connection without one, and
    ``HANG`` never answers.
    """

    answer: Callable[[Received], bytes | None] = lambda request: reply()
    received: list[Received] = field(default_factory=list)
    port: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    HANG = b"\x00hang"

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection, which is one request."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(Received(head).headers.get("content-length", "0"))
            request = Received(head + await reader.readexactly(length))
            self.received.append(request)
            answer = self.answer(request)
            if answer == self.HANG:
                await reader.read()
            elif answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


WIRES: list[Wire] = []
"""Those that run now, so that whoever wants to see what left can look."""


@contextlib.asynccontextmanager
async def wire(answer: Callable[[Received], bytes | None] | None = None) -> AsyncIterator[Wire]:
    """A running ``Wire``."""
    it = Wire()
    if answer is not None:
        it.answer = answer
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, limit=2**22)
    it.port = server.sockets[0].getsockname()[1]
    WIRES.append(it)
    try:
        yield it
    finally:
        WIRES.remove(it)
        server.close()
        await server.wait_closed()
        if it.tasks:
            await asyncio.wait(it.tasks, timeout=5)
