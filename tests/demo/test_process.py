"""Child processes of the demonstration: none outlives its context, and a failure shows its log."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from remediator.demo.process import Child, ChildError, free_port

SERVER = """
import http.server, sys
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    return Path(f"/proc/{pid}").exists()


async def test_a_child_is_ready_when_it_answers_and_gone_when_its_context_is_left(tmp_path: Path) -> None:
    """A child runs exactly as long as its context."""
    port = free_port()
    async with Child("server", [sys.executable, "-c", SERVER, str(port)], log=tmp_path / "log") as child:
        await child.ready(f"http://127.0.0.1:{port}/")
        pid = child.pid
        assert alive(pid)
    assert not alive(pid)
    assert not child.running
    await child.stop()


async def test_a_child_is_ended_when_its_context_fails(tmp_path: Path) -> None:
    """An error while a child runs still ends the child."""
    with pytest.raises(ZeroDivisionError):
        async with Child(
            "sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log"
        ) as child:
            pid = child.pid
            _ = 1 / 0
    assert not alive(pid)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """A child that does not listen is ended all the same."""
    argv = [sys.executable, "-c", DEAF]
    async with Child("deaf", argv, log=tmp_path / "log", stop_seconds=0.2) as child:
        async with asyncio.timeout(10):
            while True:
                if "deaf" in child.tail():
                    break
                await asyncio.sleep(0.01)
        pid = child.pid
    assert not alive(pid)


async def test_a_child_that_ends_at_once_shows_why(tmp_path: Path) -> None:
    """A child that dies while it is waited for is reported with its status and the end of its log."""
    argv = [sys.executable, "-c", "import sys; print('port taken'); sys.exit(7)"]
    async with Child("broken", argv, log=tmp_path / "log") as child:
        with pytest.raises(ChildError, match=r"(?s)broken ended with 7.*port taken"):
            await child.ready(f"http://127.0.0.1:{free_port()}/")


async def test_a_child_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """Waiting for an answer has an end."""
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    async with Child("silent", argv, log=tmp_path / "log", start_seconds=0.2) as child:
        with pytest.raises(ChildError, match="silent does not answer"):
            await child.ready(f"http://127.0.0.1:{free_port()}/")
