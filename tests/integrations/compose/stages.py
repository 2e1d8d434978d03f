"""The stages of compose actions for the contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from remediator.action import Action
from remediator.integrations.compose.down import Down
from remediator.integrations.compose.ordered_shutdown import OrderedShutdown
from remediator.integrations.compose.ordered_startup import OrderedStartup
from remediator.integrations.compose.recreate import Recreate
from remediator.integrations.compose.restart import Restart
from remediator.integrations.compose.scale import Scale
from remediator.integrations.compose.set_env import SetEnv
from remediator.integrations.compose.start import Start
from remediator.integrations.compose.stop import Stop
from tests.integrations.arrangements import Stage
from tests.integrations.compose.engine import engine

PERMIT = {"actions": ["compose.*"], "services": ["worker", "*"], "variables": ["DB_MAX_CONNECTIONS"]}
ORDER = {"startup": [{"name": "all", "services": ["worker"], "within": "20s"}]}


def _stage(
    action: Action[Any], event: str, *, converges: bool = True, running: bool = True
) -> Callable[[Path], AbstractAsyncContextManager[Stage]]:
    """A project with one service of one container, and how often something happened to it since."""

    @asynccontextmanager
    async def arrangement(directory: Path) -> AsyncIterator[Stage]:
        it = engine()
        with it.project() as project:
            project.create("worker", start=running)
            since = time.time()
            target = project.target(**ORDER, permit=PERMIT)
            yield Stage(
                action=action,
                target=target,
                effects=lambda: it.events(project.name, event, since),
                converges=converges,
            )
            await target.close()

    return arrangement


@asynccontextmanager
async def set_env(directory: Path) -> AsyncIterator[Stage]:
    """An environment file that says 10 and is to say 50."""
    with engine().project() as project:
        file = project.directory / ".env"
        file.write_text("A=1\nDB_MAX_CONNECTIONS=10\n")
        target = project.target(permit=PERMIT)
        seen = [file.read_text()]

        def left() -> list[Any]:
            """The variables of the file as Compose reads them, if it was written."""
            text, before = file.read_text(), seen.pop()
            seen.append(text)
            return [line.split("=", 1) for line in text.splitlines()] if text != before else []

        yield Stage(
            action=SetEnv(variable="DB_MAX_CONNECTIONS", value="50"),
            target=target,
            effects=lambda: int(file.read_text() != "A=1\nDB_MAX_CONNECTIONS=10\n"),
            converges=True,
            left=left,
        )
        await target.close()


STAGES = {
    "compose.restart": _stage(Restart(service="worker"), "restart", converges=False),
    "compose.recreate": _stage(Recreate(service="worker"), "create"),
    "compose.scale": _stage(Scale(service="worker", at_least=2, max=4), "create"),
    "compose.stop": _stage(Stop(service="worker"), "stop"),
    "compose.start": _stage(Start(service="worker"), "start", running=False),
    "compose.down": _stage(Down(grace=1), "destroy"),
    "compose.ordered_shutdown": _stage(OrderedShutdown(), "stop"),
    "compose.ordered_startup": _stage(OrderedStartup(), "start", running=False),
    "compose.set_env": set_env,
}
