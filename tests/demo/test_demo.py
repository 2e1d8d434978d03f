"""The whole demonstration as a person starts it: real processes, the real loop, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.audit import AuditRecord, verify
from tests.servers import ROOT

LIMIT = 120
"""Seconds after which a demonstration hangs; it promises less than 90."""


class Demo:
    """A running ``remediator demo`` whose output can be waited for."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "remediator", "demo", *flags],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self._watchdog = threading.Timer(LIMIT, self.process.kill)
        self._watchdog.start()

    def until(self, text: str) -> None:
        """Return once ``text`` was printed."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was never printed\n{self.output}")

    def end(self) -> int:
        """The exit status, once everything was printed."""
        assert self.process.stdout
        if not self.process.stdout.closed:
            self.output += self.process.stdout.read()
            self.process.stdout.close()
        status = self.process.wait()
        self._watchdog.cancel()
        return status

    @property
    def children(self) -> dict[str, int]:
        """Process ids of what the demonstration started, by name."""
        return {name: int(pid) for name, pid in re.findall(r"(\w+) \(pid (\d+)\)", self.output)}


@contextlib.contextmanager
def demo(*flags: str) -> Iterator[Demo]:
    """A demonstration that a failing test does not leave behind."""
    running = Demo(*flags)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.end()


def assert_gone(children: dict[str, int]) -> None:
    """None of these processes exists any more."""
    assert children
    left = {name: pid for name, pid in children.items() if Path(f"/proc/{pid}").exists()}
    assert not left


def assert_told_in_order(output: str, *texts: str) -> None:
    """Every text was printed, each after the one before."""
    at = 0
    for text in texts:
        found = output.find(text, at)
        assert found >= 0, f"{text!r} is missing, or came too early\n{output}"
        at = found


def assert_no_secret(output: str, place: Path) -> None:
    """Neither the output nor any log holds one of the tokens, which only their owner can read."""
    told = output + "".join(log.read_text() for log in place.glob("*.log"))
    files = [place / name for name in ("admin.token", "intake.token")]
    assert not [file.name for file in files if file.read_text().strip() in told]
    assert not [file.name for file in files if file.stat().st_mode & 0o077]


STORY = (
    "3000 mints are asked for at once; 2 workers",
    "alert HighQueueDepth fires",
    "accepted the delivery and opened run",
    "guard cooldown says allow",
    "step workers is done",
    "run is succeeded",
    "the queue is empty; 3000 mints are completed",
    "effect.intent",
    "effect.outcome",
    "run.succeeded",
    "the chain is whole",
)
"""What must be told, in this order, whoever fires the alert."""


@pytest.mark.parametrize(
    ("flags", "servers"),
    [
        ((), {"minting", "remediator", "alertmanager", "prometheus"}),
        (("--no-prometheus",), {"minting", "remediator"}),
    ],
    ids=["prometheus", "captured"],
)
def test_the_demonstration_puts_a_service_right(tmp_path: Path, flags: tuple[str, ...], servers: set[str]) -> None:
    """A queue backs up, an alert becomes one guarded action, the alert resolves, the audit log proves it.

    No token is told or logged on the way.
    """
    place = tmp_path / "kept"
    with demo("--directory", str(place), *flags) as running:
        assert running.end() == 0, running.output
    assert_told_in_order(running.output, *STORY)
    assert running.output.index("20 workers mint now, 2 did before") < running.output.index("run is succeeded")
    assert running.children.keys() == servers
    assert_gone(running.children)
    assert_no_secret(running.output, place)
    exported = subprocess.run(
        [sys.executable, "-m", "remediator", "audit", "export", "--storage.url", f"sqlite:///{place}/remediator.db"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    records = [AuditRecord(**json.loads(line)) for line in exported.stdout.splitlines()]
    assert verify(records).ok
    events = [record.event for record in records]
    assert events.count("effect.intent") == events.count("effect.outcome") == 1, "one problem, one action"


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM], ids=lambda sig: str(sig.name))
def test_a_signal_in_the_middle_ends_every_process(sig: signal.Signals) -> None:
    """Ctrl-C while the story is told ends all of it, promptly, and says by its status that it was not finished."""
    with demo("--no-prometheus") as running:
        running.until("mints are asked for at once")
        running.process.send_signal(sig)
        assert running.end() == 1
    assert_gone(running.children)
    assert "Traceback" not in running.output


def test_keep_leaves_everything_running_until_it_is_told_to_end() -> None:
    """With --keep all processes live on after the story, and Ctrl-C ends them with the story's own result."""
    with demo("--no-prometheus", "--keep") as running:
        running.until("Ctrl-C ends it")
        assert all(Path(f"/proc/{pid}").exists() for pid in running.children.values())
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0, running.output
    assert_gone(running.children)


def test_a_part_that_dies_fails_the_demonstration_and_shows_the_logs() -> None:
    """When Remediator dies in the middle, the demonstration says so, shows the logs, fails, and ends the rest."""
    with demo("--no-prometheus") as running:
        running.until("mints are asked for at once")
        os.kill(running.children["remediator"], signal.SIGKILL)
        assert running.end() == 1
    assert "stopped answering" in running.output
    assert "remediator: " in running.output
    assert_gone(running.children)


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    """The demonstration refuses a folder that holds something, before it starts anything."""
    (tmp_path / "mine").write_text("keep me")
    with demo("--directory", str(tmp_path)) as running:
        assert running.end() == 2
    assert "is not empty" in running.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
