"""What holds for every test: no test may leave a process behind, and properties are reproducible."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# No deadline for one example: the machines of continuous integration stall. A failure prints the line that
# reproduces it.
hypothesis.settings.register_profile("remediator", deadline=None, print_blob=True)
hypothesis.settings.load_profile("remediator")

# A failed assertion in the suite that every store passes shows its values, as one in a test module does. Said here,
# because it must be said before anybody imports that suite.
pytest.register_assert_rewrite("tests.stores.conformance")

# Python 3.11 makes an event loop for whoever first asks for one, and the plugins for asyncio and virtual time
# ask even in tests that need none. Nobody would close that loop; having set none, they are told there is none.
asyncio.set_event_loop(None)


def pytest_collection_finish() -> None:
    """Seven thousand tests stay for good: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


def _children() -> dict[int, str]:
    """Process id and command line of every child of this process."""
    found = {}
    for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in children.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(pid)] = command or "(ended, but nobody waited for it)"
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """A test that starts a server also ends it; whatever is left at the end fails the run by name."""
    before = _children()
    yield
    left = {pid: command for pid, command in _children().items() if pid not in before}
    assert not left, f"these processes were started by a test and never ended: {left}"
