"""Named places where a process can be made to die, so that tests can prove what a crash leaves behind.

``REMEDIATOR_CRASHPOINT=name`` or ``name:3`` (the third passage) kills the process with SIGKILL right there. Without the
variable a passage costs one comparison. POINTS is the whole list; tests enumerate it.
"""

from __future__ import annotations

import os
import signal

POINTS: tuple[str, ...] = (
    "store.before_commit",
    "store.after_commit",
    "intake.before_commit",
    "intake.after_commit",
    "worker.after_claim",
    "engine.after_probes",
    "engine.after_diff",
    "engine.before_licence",
    "engine.after_licence",
    "engine.after_apply",
    "engine.after_verify",
    "engine.after_conclude",
    "engine.before_save",
    "engine.after_save",
    "approval.after_ask",
    "approval.after_vote",
    "worker.after_renew",
    "worker.drain",
)
"""Every named crash point of the code."""


def _armed(text: str) -> tuple[str, int]:
    name, _, count = text.partition(":")
    return name, int(count or "1")


_name, _left = _armed(os.environ.get("REMEDIATOR_CRASHPOINT", ""))


def crashpoint(name: str) -> None:
    """Die here if the environment says so. Does nothing in production."""
    if _name and name == _name:
        _die()


def _die() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
