"""The stages of command actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.command.run import Run
from remediator.integrations.command.target import CommandTarget
from tests.integrations.arrangements import Stage


@asynccontextmanager
async def command_run(directory: Path) -> AsyncIterator[Stage]:
    """A command that adds a line to a file."""
    script = 'printf "%s\\0" "$@" >> left; echo >> done'
    program = {"argv": ["/bin/sh", "-c", script, "sh", "{word}"], "parameters": {"word": {}}}
    target = CommandTarget.model_validate(
        {
            "directory": str(directory),
            "commands": {"note": program},
            "permit": {"actions": ["command.run"], "commands": ["note"]},
        }
    )

    def effects() -> int:
        done = directory / "done"
        return len(done.read_text().splitlines()) if done.exists() else 0

    def left() -> list[str]:
        """The arguments that the program itself saw."""
        path = directory / "left"
        if not path.exists():
            return []
        return path.rename(directory / "seen").read_text().split("\0")

    action = Run(command="note", parameters={"word": "hello"})
    yield Stage(action=action, target=target, effects=effects, converges=False, left=left)
    await target.close()


STAGES = {"command.run": command_run}
