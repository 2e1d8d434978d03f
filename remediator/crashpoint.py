"""Named places where a process can be made to die, so that tests can prove what a crash leaves behind.

``REMEDIATOR_CRASHPOINT=name`` or ``name:3`` (the third passage) kills the process with SIGKILL right there. Without the
variable a passage costs one comparison. POINTS is the whole list; tests enumerate it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

MONEY: tuple[str, ...] = (
    "money.before_sign",
    "money.after_sign",
    "money.before_send",
    "money.after_send",
    "money.before_close",
    "money.after_close",
)
"""The points that only a payment passes."""

CLOSED_LOOP: tuple[str, ...] = (
    "closing.before_undo",
    "closing.after_undo",
    "closing.after_give_back",
    "closing.before_next_remedy",
    "closing.after_next_remedy",
    "closing.before_final",
    "closing.after_final",
    "closing.before_end",
    "revert.before_create",
    "revert.before_back",
    "revert.after_back",
)
"""The points that only a run passes which undoes, tries another remedy, has final steps, or made a temporary change."""

POINTS: tuple[str, ...] = (
    *MONEY,
    *CLOSED_LOOP,
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
    if _passage is not None:
        _passage(name)


def on_passage(passage: Callable[[str], None] | None) -> None:
    """Call ``passage`` with the name of every crash point that is passed, instead of dying; None: pass in peace.

    For simulations, in which many processes live in one and only some of them die.
    """
    global _passage  # noqa: PLW0603 - one process has one list of deaths.
    _passage = passage


def _die(name: str) -> None:
    global _left  # noqa: PLW0603 - one process has one list of deaths.
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


_passage: Callable[[str], None] | None = _die if _name else None
