"""Proves that the list of crash points is the code's own, and that a crash point kills there and nowhere else."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.crashpoint import POINTS

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
from remediator.crashpoint import crashpoint
for n in range(3):
    print(n, flush=True)
    crashpoint('a.b')
"""


def _passages() -> list[tuple[str, Path]]:
    """The name of every crash point that the code passes, and the file."""
    found: list[tuple[str, Path]] = []
    for path in (ROOT / "remediator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crashpoint":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}: a crash point has a written-out name"
                found.append((str(name.value), path))
    return found


def test_the_list_is_the_code() -> None:
    """A test that tries every name of the list has tried every place of the code, each of which has its own name."""
    passages = _passages()
    assert {name for name, _ in passages} == set(POINTS) and len(set(POINTS)) == len(POINTS)
    alone = [name for name, path in passages if path.parent.name != "stores"]  # each adapter has its own commit
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize(
    ("armed", "printed", "killed"),
    [
        (None, "012", False),
        ("", "012", False),
        ("a.c", "012", False),
        ("a.b", "0", True),
        ("a.b:1", "0", True),
        ("a.b:3", "012", True),
        ("a.b:4", "012", False),
    ],
)
def test_a_process_dies_at_the_passage_that_was_named(armed: str | None, printed: str, killed: bool) -> None:
    """SIGKILL at exactly the named passage; without the variable, or with another name, nothing happens."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("REMEDIATOR_CRASHPOINT", None)
    if armed is not None:
        environment["REMEDIATOR_CRASHPOINT"] = armed
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == list(printed)
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
