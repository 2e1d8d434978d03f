"""One small stage per action for the contract suite: a real system, the action, and how often it took effect.

Each integration keeps its own in ``tests/integrations/<system>/stages.py``, as a dictionary ``STAGES`` by action name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.action import Action, Change
from remediator.target import Target
from tests.integrations.support import switched_off


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An action before a real system. ``converges``: once done, its diff is empty.

    ``licence`` does what a licence for a change does besides: it reserves money, where the action spends.
    ``left`` tells, as JSON data, what came to the system since it was last asked, read by the rules of the system's
    protocol and not by our own code. Where the system is a ``Wire``, nobody needs to say it.
    """

    action: Action[Any]
    target: Target
    effects: Callable[[], int]
    converges: bool
    licence: Callable[[Change], None] = lambda change: None
    left: Callable[[], list[Any]] | None = None


Arrangement = Callable[[Path], AbstractAsyncContextManager[Stage]]


def stages() -> dict[str, Arrangement]:
    """The stage of every action, by its name."""
    found: dict[str, Arrangement] = {}
    for path in sorted(Path(__file__).parent.glob("*/stages.py")):
        if path.parent.name in switched_off():
            continue
        module = importlib.import_module(f"tests.integrations.{path.parent.name}.stages")
        found |= module.STAGES
    return found
