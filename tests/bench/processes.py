"""Servers as processes of their own: started, waited for, looked at from outside, and ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_PAGE = resource.getpagesize()
_TICK = os.sysconf("SC_CLK_TCK")
READY_WITHIN = 30.0
"""Seconds after which a server that does not answer counts as broken."""


class Broken(Exception):
    """Something does not work, so that its figure would mean nothing."""


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Process:
    """One server on loopback; it runs as long as its context. ``argv`` follows the Python interpreter."""

    def __init__(self, argv: Sequence[str], *, port: int, ready: str, log: Path) -> None:
        self.port = port
        self._argv = [sys.executable, *argv]
        self._ready = ready
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.started_in = 0.0
        """Seconds from the start of the process to its first 200 on ``ready``."""

    def __enter__(self) -> Process:
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait(began)
        except BaseException:
            self.kill()
            raise
        self.started_in = time.monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _wait(self, began: float) -> None:
        while self.get(self._ready) != 200:
            if self.process.poll() is not None or time.monotonic() - began > READY_WITHIN:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise Broken(f"{' '.join(self._argv)} did not become ready; its last words:\n{tail}")
            time.sleep(0.005)

    def get(self, path: str) -> int:
        """The status of a GET; 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def read(self, path: str) -> bytes:
        """The body of a GET. Raises Broken unless the status is 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise Broken(f"GET {path} answered {answer.status}")
        return body

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process itself."""
        assert self._process is not None
        return self._process

    def rss(self) -> float:
        """Resident memory, MiB (proc(5), statm)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * _PAGE / 2**20

    def cpu(self) -> float:
        """Processor time used so far by all threads, seconds (proc(5), stat)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def kill(self) -> None:
        """End it at once: what is measured is never how politely it stops."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
