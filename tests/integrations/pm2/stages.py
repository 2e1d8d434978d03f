"""The stages of pm2 actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.pm2.restart import Restart
from remediator.integrations.pm2.scale import Scale
from remediator.integrations.pm2.start import Start
from remediator.integrations.pm2.stop import Stop
from remediator.integrations.pm2.target import Pm2Target
from tests.integrations.arrangements import Stage
from tests.integrations.pm2.daemon import daemon


def _target(name: str) -> Pm2Target:
    return daemon().target(permit={"actions": ["pm2.*"], "processes": [name]})


@asynccontextmanager
async def restart(directory: Path) -> AsyncIterator[Stage]:
    """A process that runs."""
    it = daemon()
    with it.process() as name:
        before = it.starts(name)
        yield Stage(
            action=Restart(process=name),
            target=_target(name),
            effects=lambda: it.starts(name) - before,
            converges=False,
        )


@asynccontextmanager
async def scale(directory: Path) -> AsyncIterator[Stage]:
    """A process with one instance that is to have two."""
    it = daemon()
    with it.process() as name:
        before = it.starts(name)
        yield Stage(
            action=Scale(process=name, at_least=2, max=4),
            target=_target(name),
            effects=lambda: it.starts(name) - before,
            converges=True,
        )


@asynccontextmanager
async def stop(directory: Path) -> AsyncIterator[Stage]:
    """A process that runs."""
    it = daemon()
    with it.process() as name:
        before = it.stops(name)
        yield Stage(
            action=Stop(process=name), target=_target(name), effects=lambda: it.stops(name) - before, converges=True
        )


@asynccontextmanager
async def start(directory: Path) -> AsyncIterator[Stage]:
    """A process that somebody stopped."""
    it = daemon()
    with it.process(stopped=True) as name:
        before = it.starts(name)
        yield Stage(
            action=Start(process=name), target=_target(name), effects=lambda: it.starts(name) - before, converges=True
        )


STAGES = {"pm2.restart": restart, "pm2.scale": scale, "pm2.stop": stop, "pm2.start": start}
