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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An action before a real system. ``converges``: once done, its diff is empty.

    ``licence`` does what a licence for a change does besides: it reserves money, where the action spends.
    """

    action: Action[Any]
    target: Target
    effects: Callable[[], int]
    converges: bool
    licence: Callable[[Change], None] = lambda change: None


Arrangement = Callable[[Path], AbstractAsyncContextManager[Stage]]


def stages() -> dict[str, Arrangement]:
    """The stage of every action, by its name."""
    found: dict[str, Arrangement] = {}
    for path in sorted(Path(__file__).parent.glob("*/stages.py")):
        module = importlib.import_module(f"tests.integrations.{path.parent.name}.stages")
        found |= module.STAGES
    return found
