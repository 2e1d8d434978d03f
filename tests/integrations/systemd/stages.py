"""The stages of systemd actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.systemd.restart import Restart
from tests.integrations.arrangements import Stage
from tests.integrations.systemd.manager import Manager


@asynccontextmanager
async def restart(directory: Path) -> AsyncIterator[Stage]:
    """A unit that runs."""
    it = Manager(directory)
    yield Stage(action=Restart(unit="redis.service"), target=it.target(), effects=it.effects, converges=False)


STAGES = {"systemd.restart": restart}
