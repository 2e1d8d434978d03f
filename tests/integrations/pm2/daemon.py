"""A real pm2 daemon for tests: started on first use in a temporary folder, ended by its process id."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from remediator.integrations.pm2.target import Pm2Target
from tests.servers import ROOT, program

PM2 = ROOT / ".cache/pm2/node_modules/.bin/pm2"
_numbers = itertools.count()


class Daemon:
    """One daemon; ``process()`` gives a process of its own to each test."""

    def __init__(self) -> None:
        assert PM2.exists(), 'pm2 is not installed; "make test" installs what the tests need'
        self.home = Path(tempfile.mkdtemp(prefix="remediator-pm2-"))
        self.path = f"{Path(program('node')).parent}:/usr/bin:/bin"
        self._spare: list[str] = []
        # The daemon keeps the environment it was started with: it gets no more than it needs.
        self.pm2("ping")
        self.pid = int((self.home / "pm2.pid").read_text())

    def pm2(self, *words: str, **environment: str) -> str:
        """What pm2 prints."""
        done = subprocess.run(
            [PM2, *words],
            env={"PATH": self.path, "PM2_HOME": str(self.home), "HOME": str(self.home), **environment},
            cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def list(self, name: str) -> list[dict[str, Any]]:
        """What pm2 knows of a process."""
        entries = json.loads(self.pm2("jlist").strip().splitlines()[-1])
        return [entry for entry in entries if entry["name"] == name]

    def starts(self, name: str) -> int:
        """How often an instance of it came online, as the daemon's own log tells."""
        log = (self.home / "pm2.log").read_text()
        return len(re.findall(rf"App \[{re.escape(name)}:\d+\] online", log))

    def stops(self, name: str) -> int:
        """How often an instance of it was stopped by command."""
        log = (self.home / "pm2.log").read_text()
        return len(re.findall(rf"Stopping app:{re.escape(name)} id:\d+", log))

    @contextmanager
    def process(self, *, stopped: bool = False) -> Iterator[str]:
        """The name of a process with one instance, online unless ``stopped``; what is left of it is reused."""
        name = self._spare.pop() if self._spare else self.new()
        if stopped:
            self.pm2("stop", name)
        yield name
        left = self.list(name)
        if [entry["pm2_env"]["status"] for entry in left] == ["online"]:
            self._spare.append(name)
        elif left:
            self.pm2("delete", name)

    def new(self, *words: str, **environment: str) -> str:
        """A new process; without ``words`` one that sleeps."""
        name = f"worker-{next(_numbers)}"
        words = words or ("/bin/sleep", "--interpreter", "none", "--", "1000")
        self.pm2("start", words[0], "--name", name, *words[1:], **environment)
        return name

    def target(self, **others: Any) -> Pm2Target:
        """A target on it that permits everything."""
        permit = {"actions": ["pm2.*"], "processes": ["*"]}
        settings = {"home": str(self.home), "program": str(PM2), "path": self.path, "permit": permit, **others}
        return Pm2Target.model_validate(settings)

    def stop(self) -> None:
        """End it with everything it runs."""
        self.pm2("kill")
        # It is nobody's child: pm2 detaches it. Wait until it is really gone.
        for _ in range(200):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.02)
        else:
            os.kill(self.pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


_running: list[Daemon] = []


def daemon() -> Daemon:
    """The one daemon of this session."""
    if not _running:
        _running.append(Daemon())
    return _running[0]


def stop() -> None:
    """End it, if it was ever started."""
    with contextlib.suppress(IndexError):
        _running.pop().stop()
