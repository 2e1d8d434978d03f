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
    program = {"argv": ["/bin/sh", "-c", 'echo "$1" >> done', "sh", "{word}"], "parameters": {"word": {}}}
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

    action = Run(command="note", parameters={"word": "hello"})
    yield Stage(action=action, target=target, effects=effects, converges=False)
    await target.close()


STAGES = {"command.run": command_run}
