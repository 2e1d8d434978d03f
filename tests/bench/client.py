"""A lean HTTP client: prepared bytes over kept connections, one thread, epoll; it measures, and nothing else."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.bench.processes import Broken


@dataclass(slots=True)
class Load:
    """What a round of requests came to. Delays are seconds, in the order of the answers."""

    seconds: float = 0.0
    answers: int = 0
    delays: list[float] = field(default_factory=list)
    busy: float = 0.0
    """The share of one core that this client itself used."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    def delay(self, share: float) -> float:
        """The delay that ``share`` of the answers did not exceed, seconds."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Wire:
    """One connection and the request under way on it."""

    __slots__ = ("began", "buffer", "missing", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(30)
        self.began = 0.0
        self.buffer = b""

    def send(self, request: bytes, began: float) -> None:
        self.began = began
        self.socket.sendall(request)

    def received(self) -> bool:
        """Take what came; whether the answer is complete. Raises Broken unless it is a 200."""
        data = self.socket.recv(65536)
        if not data:
            raise Broken("the server closed a connection in the middle")
        data = self.buffer + data
        head, blank, body = data.partition(b"\r\n\r\n")
        if not blank:
            self.buffer = data
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise Broken(f"answered {head.splitlines()[0].decode()}: {body[:300].decode(errors='replace')}")
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(body) < length:
            self.buffer = data
            return False
        self.buffer = b""
        return True


class Client:
    """``connections`` kept connections to a server on loopback, or spread evenly over several."""

    def __init__(self, ports: int | Sequence[int], connections: int) -> None:
        spread = [ports] if isinstance(ports, int) else ports
        self._wires = [_Wire(spread[number % len(spread)]) for number in range(connections)]
        self._selector = selectors.DefaultSelector()
        for wire in self._wires:
            self._selector.register(wire.socket, selectors.EVENT_READ, wire)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for wire in self._wires:
            wire.socket.close()

    def closed_loop(self, requests: Iterable[bytes], seconds: float) -> Load:
        """Every connection sends its next request as soon as it is answered; ends when time or requests are over."""
        load, source = Load(), iter(requests)
        began, worked = time.perf_counter(), time.process_time()
        end = began + seconds
        open_ = 0
        for wire in self._wires:
            open_ += self._next(wire, source)
        while open_:
            for key, _ in self._selector.select(10):
                wire = key.data
                if not wire.received():
                    continue
                now = time.perf_counter()
                load.delays.append(now - wire.began)
                load.answers += 1
                open_ -= 1
                if now < end:
                    open_ += self._next(wire, source)
        load.seconds = time.perf_counter() - began
        load.busy = (time.process_time() - worked) / load.seconds
        return load

    @staticmethod
    def _next(wire: _Wire, source: Iterator[bytes]) -> int:
        request = next(source, None)
        if request is None:
            return 0
        wire.send(request, time.perf_counter())
        return 1

    def at_rate(self, requests: list[bytes], rate: float) -> Load:
        """``rate`` requests a second whatever the answers do; a delay counts from when its request was due."""
        load, free = Load(), list(self._wires)
        began, worked = time.perf_counter(), time.process_time()
        sent = 0
        while load.answers < len(requests):
            now = time.perf_counter()
            due = began + sent / rate
            if sent < len(requests) and due <= now and free:
                free.pop().send(requests[sent], due)
                sent += 1
                continue
            wait = max(0.0, due - now) if sent < len(requests) and free else 10.0
            for key, _ in self._selector.select(wait):
                if key.data.received():
                    load.delays.append(time.perf_counter() - key.data.began)
                    load.answers += 1
                    free.append(key.data)
        load.seconds = time.perf_counter() - began
        load.busy = (time.process_time() - worked) / load.seconds
        return load
