"""Does what docs/how-to/write-a-first-rule.md tells its reader, command by command, and looks whether it comes true."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, free_port

PAGE = ROOT / "docs" / "how-to" / "write-a-first-rule.md"
QUICKER = {"within: 20s": "within: 1s", "every: 5s": "every: 200ms", "settle: 15s": "settle: 1s", "%SZ": "%S.%NZ"}
"""What a person has patience for, and a test has not. Instants get fractions, for a test is quicker than a second."""


class Reader:
    """A person who follows the page in an empty folder, on ports that are free here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shop, self.url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        text = PAGE.read_text(encoding="utf-8")
        for was, now in {**QUICKER, "8000": self.shop[17:], "9095": self.url[17:]}.items():
            assert was in text, f"the page does not say {was} any more"
            text = text.replace(was, now)
        for name, body in re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(body)
        blocks = re.findall(r"```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        self.commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
        (folder / "remediator").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m remediator "$@"\n')
        (folder / "remediator").chmod(0o755)

    def next(self) -> str:
        """Does the next command of the page, which must succeed; what it printed."""
        command = self.commands.pop(0)
        command = command.replace("remediator serve", f"remediator serve --web.listen-address={self.url[7:]}")
        if "shop.py" in command:
            command += " echo $! > shop.pid"
        path = f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (self.folder / "said").open("w+") as said:  # a file, for what is left in the background keeps it open
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.folder, stdout=said, stderr=said, check=False, timeout=30,
                env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "REMEDIATOR_URL": self.url},
            )  # fmt: skip
        text = (self.folder / "said").read_text()
        assert done.returncode == 0, f"{command}: {text}"
        return text

    def get(self, path: str) -> Any:
        """What the service answers; None while it does not, or dies."""
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.loads(answer.read())

    def lever(self, name: str) -> int:
        """Where a lever of the shop stands."""
        with urllib.request.urlopen(f"{self.shop}/{name}", timeout=5) as answer:
            value: int = json.loads(answer.read())["value"]
            return value

    def wait(self, what: str, so: Callable[[], bool]) -> None:
        """Until ``so``."""
        end = time.monotonic() + 20
        while not so():
            assert time.monotonic() < end, f"not so: {what}\n{(self.folder / 'remediator.log').read_text()}"
            time.sleep(0.05)

    def runs(self) -> list[str]:
        """The states of all runs, newest first."""
        return [run["state"] for run in (self.get("/api/v1/runs") or {"items": []})["items"]]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody who begins; whatever they started is ended."""
    (tmp_path / "first").mkdir()
    yield Reader(tmp_path / "first")
    for name in ("pid", "shop.pid"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((tmp_path / "first" / name).read_text()), signal.SIGKILL)


def test_the_first_rule_does_what_its_page_says(reader: Reader) -> None:
    """Observing, two remedies, undo, a temporary change, a kill -9: every command works as it is printed."""
    reader.next()
    assert "no problems" in reader.next()
    assert "✓ shop-queue" in reader.next()

    reader.next()
    reader.wait("the service is ready", lambda: bool(reader.get("/-/ready?verbose")))
    assert '"accepted":1' in reader.next()
    reader.wait("it was observed", lambda: reader.runs() == ["observed"])
    assert "would have done: PUT" in reader.next()
    assert "Would act:    1" in reader.next()
    assert reader.lever("workers") == 2
    reader.next()

    reader.next(), reader.next()
    reader.wait("the rule acts", lambda: reader.get("/api/v1/rules/shop-queue")["mode"] == "auto")
    reader.next()
    reader.wait("a remedy has its turn", lambda: bool((reader.get("/api/v1/runs/@latest") or {}).get("remedies")))
    assert "more workers" in reader.next()
    reader.wait("the second remedy acted", lambda: len(reader.get("/api/v1/changes")["items"]) == 1)
    assert (reader.lever("workers"), reader.lever("rate")) == (2, 1)
    assert "/rate" in reader.next()

    reader.next(), reader.next()
    reader.wait("the service is ready again", lambda: bool(reader.get("/-/ready?verbose")))
    assert "verifying" in reader.next()
    assert "/rate" in reader.next()
    reader.next()
    reader.wait("the run succeeded", lambda: reader.runs() == ["succeeded", "observed"])
    assert "succeeded" in reader.next()
    reader.wait("the rate is as before", lambda: reader.lever("rate") == 10)
    assert "goes back" in reader.next()
    reader.wait("its way back is over", lambda: not reader.get("/api/v1/changes")["items"])
    assert "the chain is whole" in reader.next()
    assert reader.commands == []
