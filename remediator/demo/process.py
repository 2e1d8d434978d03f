"""Child processes of the demonstration: started on loopback, waited for, ended by exactly their own id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

START_SECONDS = 20.0
"""How long a process may take until it answers."""

STOP_SECONDS = 10.0
"""How long a process may take to end after SIGTERM before it is killed."""


class ChildError(Exception):
    """A child process did not start or ended too early; the message carries the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens.

    It lies below the ports that Linux gives to outgoing connections, so that no client can take it between
    this look and the moment when a server binds it.
    """
    for _ in range(1_000):
        port = random.randrange(20_000, 32_000)  # noqa: S311 - a port is no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ChildError("no free port of 127.0.0.1 was found")


class Child:
    """One process of ours, with a log file. Leaving its context ends it, however it is left."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.name = name
        self.log = log
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._argv = [str(each) for each in argv]
        self._env = {**os.environ, **(env or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                # Ctrl-C in the terminal reaches this process only, which then ends its children in order.
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Process id of the program itself: there is no shell in between."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self._started().returncode is None

    async def ready(self, url: str) -> None:
        """Return once ``url`` answers 200.

        Raises ChildError with the end of the log when that takes too long or the process ends.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_seconds
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while loop.time() < deadline:
                if not self.running:
                    raise ChildError(f"{self.name} ended with {self._started().returncode}\n{self.tail()}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise ChildError(f"{self.name} does not answer {url} after {self._start_seconds:.0f} s\n{self.tail()}")

    async def kill(self) -> None:
        """End the process without any warning, as a crash would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it does not listen. Repeatable."""
        await self._end(signal.SIGTERM)

    def tail(self, lines: int = 25) -> str:
        """The end of the log, for messages about failures."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(f"  {self.name}: {line}" for line in text.splitlines()[-lines:]) or "  (empty log)"

    async def _end(self, sig: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(sig)
        try:
            async with asyncio.timeout(self._stop_seconds):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ChildError(f"{self.name} was not started")
        return self._process
