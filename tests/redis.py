"""A real Redis for tests: on a free port of loopback, in a temporary folder, ended by its process id."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import Server, free_port, program

_START = 10.0
"""Seconds until it answers; it takes a tenth of one."""


class RedisServer:
    """A running server; ``url`` stays the same when it is killed and started again."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="remediator-redis-"))
        self._flags = flags
        self._server: Server | None = None
        self.start()

    def start(self) -> None:
        """Start it, with what it had saved."""
        log = self.directory / "redis.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory,
                    "--save", "", "--appendonly", "no", "--daemonize", "no", *self._flags,
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._server = Server(name="redis", url=self.url, directory=self.directory, log=log, process=process)
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError):
                if self.tell("PING"):
                    return
            assert self._server.running, f"redis ended\n{self._server.log_tail()}"
            assert time.monotonic() < deadline, f"redis does not answer\n{self._server.log_tail()}"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash does; ``start`` brings it back, empty unless it had saved."""
        assert self._server is not None
        self._server.kill(signal.SIGKILL)
        self._server.wait()

    def freeze(self) -> None:
        """Let it hang: connections open, and nothing answers."""
        assert self._server is not None
        self._server.kill(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._server is not None
        self._server.kill(signal.SIGCONT)

    def tell(self, *words: str) -> str:
        """Send one command and give back the raw reply (redis.io/docs/reference/protocol-spec)."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(request.encode())
            return connection.recv(1 << 20).decode()

    def stop(self) -> None:
        """End it and remove its files. Repeatable."""
        if self._server is not None:
            self._server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def redis_server(*flags: Any) -> Iterator[RedisServer]:
    """A server that is ended with the block."""
    server = RedisServer(*flags)
    try:
        yield server
    finally:
        server.stop()
