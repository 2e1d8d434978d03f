"""``command.run``: run one of the programs that the operator has named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import execute
from remediator.integrations.command._program import NAME, Program
from remediator.integrations.command.target import CommandTarget


class Run(Action[CommandTarget]):
    """Runs a named command of the target with checked parameters, without a shell, and keeps its output.

    It is done when the command exits with one of its success codes; any other exit code is the command's own
    word that it failed and ends the step.
    """

    effect: ClassVar[Effect] = Effect.ONCE
    literal: ClassVar[frozenset[str]] = frozenset({"command"})

    command: Annotated[str, StringConstraints(pattern=NAME)] = Field(
        description="The command's name in the settings of the target."
    )
    parameters: dict[str, str | int] = Field(
        default_factory=dict, max_length=50, description="Values for the command's parameters."
    )

    def effect_on(self, target: CommandTarget) -> Effect:
        """What the operator declared for the command; ``once`` for one that is not there."""
        program = target.commands.get(self.command)
        return Effect(program.effect) if program else Effect.ONCE

    def needs(self) -> Mapping[str, str]:
        """The command must be permitted."""
        return {"commands": self.command}

    def subject(self) -> str:
        """The command: two runs never run the same one at once."""
        return f"command/{self.command}"

    def _program(self, target: CommandTarget) -> Program:
        program = target.commands.get(self.command)
        if program is None:
            known = ", ".join(sorted(target.commands))
            raise PermanentError(f'the target has no command "{self.command}"; it has {known}', reason="command")
        return program

    def _plan(self, target: CommandTarget) -> dict[str, Any]:
        try:
            argv = self._program(target).fill(self.parameters)
        except ValueError as error:
            raise PermanentError(f"{self.command}: {error}", reason="parameter") from None
        return {"argv": argv, "directory": target.directory}

    async def diff(self, target: CommandTarget, context: ActionContext) -> Change:
        """The argument list that would be run. Nothing is looked at, so it is never empty.

        Raises PermanentError for a wrong parameter and for a directory that is not there.
        """
        plan = self._plan(target)
        if not await asyncio.to_thread(os.path.isdir, target.directory):
            raise PermanentError(f"the directory {target.directory} does not exist", reason="directory")
        undo = self._program(target).undo
        kept = (
            {name: value for name, value in self.parameters.items() if name in target.commands[undo].parameters}
            if undo
            else {}
        )
        return Change(
            summary=f"run {self.command}: {' '.join(plan['argv'])}"[:500],
            before={},
            after=plan,
            volatile={"undo": undo, "parameters": kept},
        )

    async def apply(self, target: CommandTarget, change: Change, context: ActionContext) -> Outcome:
        """Run it to its end. Raises Interrupted (unknown) when it was ended or killed."""
        plan = self._plan(target)
        if dict(change.after) != plan:
            raise PermanentError("the command is no longer the one that was shown", reason="changed")
        program = self._program(target)
        environment, secrets = target.surroundings()
        environment |= {
            "REMEDIATOR_RUN_ID": context.run_id,
            "REMEDIATOR_STEP": context.step,
            "REMEDIATOR_ATTEMPT": str(context.attempt),
            "REMEDIATOR_KEY": context.key,
        }
        context.check_deadline()
        ended = await execute(
            plan["argv"],
            directory=target.directory,
            environment=environment,
            seconds=program.timeout,
            limit=target.max_output,
            secrets=secrets,
        )
        if ended.code not in program.success_codes:
            tail = (ended.stderr or ended.stdout).strip()[-500:]
            message = f"{self.command} exited with {ended.code}: {tail}"
            if ended.code in program.temporary_codes:
                raise TemporaryError(message, reason="exit_code")
            raise PermanentError(message, reason="exit_code")
        return Outcome(
            summary=f"{self.command} exited with {ended.code}",
            data={"exit_code": ended.code, "stdout": ended.stdout, "stderr": ended.stderr},
        )

    def inverse(self, change: Change) -> Run | None:
        """The command's ``undo`` with the same parameters; None if the operator named none."""
        undo = change.volatile.get("undo")
        if not undo:
            return None
        return Run(command=undo, parameters=dict(change.volatile.get("parameters", {})))
