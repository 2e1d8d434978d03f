"""The system that actions act on: answers every POST at once and remembers when each number arrived.

``python -m tests.bench.target PORT``. ``GET /wait?n`` answers when n distinct numbers have arrived, ``GET /arrivals``
tells all of them with their times, ``POST /forget`` begins anew. Times are CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Book:
    """What arrived, and who waits for how much."""

    def __init__(self) -> None:
        self.arrivals: dict[str, float] = {}
        self.again = 0
        self.waiting: list[tuple[int, asyncio.Transport]] = []

    def arrived(self, number: str, at: float) -> None:
        """Note the first arrival of ``number``; a second one is an effect that happened twice."""
        if number in self.arrivals:
            self.again += 1
        self.arrivals.setdefault(number, at)
        self.serve()

    def serve(self) -> None:
        """Answer those whose number is reached."""
        if self.waiting:
            for wanted, transport in [w for w in self.waiting if len(self.arrivals) >= w[0]]:
                self.waiting.remove((wanted, transport))
                transport.write(_OK)


class Connection(asyncio.Protocol):
    """One connection. Small requests only, each in one or a few pieces."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._data = b""
        self._at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole; its arrival is that of its first byte."""
        if not self._data:
            self._at = time.monotonic()
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if not blank:
            return
        at = head.lower().find(b"content-length:")
        if at >= 0 and len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self._data = b""
        self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        book = self._book
        if path.startswith("/wait?"):
            book.waiting.append((int(path.partition("?")[2]), self._transport))
            book.serve()
        elif path == "/arrivals":
            text = json.dumps({"arrivals": book.arrivals, "again": book.again}).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        elif path == "/act":
            book.arrived(json.loads(body)["number"], self._at)
            self._transport.write(_OK)
        else:
            book.arrivals.clear()
            self._transport.write(_OK)


async def _main(port: int) -> None:
    book = Book()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(book), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
