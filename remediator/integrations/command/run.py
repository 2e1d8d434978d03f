"""``command.run``: run one of the programs that the operator has named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted
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

    def _argv(self, target: CommandTarget, name: str) -> list[str]:
        """The arguments of the command itself, or of one that it names, which takes only what it knows."""
        program = self._program(target) if name == self.command else target.commands[name]
        values = self.parameters
        if name != self.command:
            values = {key: value for key, value in values.items() if key in program.parameters}
        try:
            return program.fill(values)
        except ValueError as error:
            raise PermanentError(f"{name}: {error}", reason="parameter") from None

    def _plan(self, target: CommandTarget) -> dict[str, Any]:
        plan: dict[str, Any] = {"argv": self._argv(target, self.command), "directory": target.directory}
        if target.ssh is not None:
            plan["host"] = target.ssh.place
        return plan

    async def _ask(self, target: CommandTarget, name: str, context: ActionContext) -> tuple[bool, str]:
        """Whether the command ``name``, which changes nothing, succeeds, and its last words.

        Raises TemporaryError where it gave no answer.
        """
        program = target.commands[name]
        try:
            ended = await target.execute(self._argv(target, name), program.timeout, _variables(context))
        except Interrupted as error:
            raise TemporaryError(f"{name} gave no answer: {error}", reason="unanswered") from None
        words = (ended.stderr or ended.stdout).strip()[-500:]
        if ended.code in program.temporary_codes:
            raise TemporaryError(f"{name} exited with {ended.code}: {words}", reason="exit_code")
        return ended.code in program.success_codes, words

    async def diff(self, target: CommandTarget, context: ActionContext) -> Change:
        """The argument list that would be run; empty only if ``done_if`` says that it need not be.

        Raises PermanentError for a wrong parameter, a directory that is not there, and a precondition that fails.
        """
        plan, program = self._plan(target), self._program(target)
        if target.ssh is None and not await asyncio.to_thread(os.path.isdir, target.directory):
            raise PermanentError(f"the directory {target.directory} does not exist", reason="directory")
        undo = program.undo
        kept = (
            {name: value for name, value in self.parameters.items() if name in target.commands[undo].parameters}
            if undo
            else {}
        )
        done = program.done_if is not None and (await self._ask(target, program.done_if, context))[0]
        if not done and program.precondition is not None:
            fine, words = await self._ask(target, program.precondition, context)
            if not fine:
                raise PermanentError(f"{program.precondition} says no: {words}", reason="precondition")
        return Change(
            summary=f"run {self.command}: {' '.join(plan['argv'])}"[:500],
            before=plan if done else {},
            after=plan,
            volatile={"undo": undo, "parameters": kept},
        )

    async def apply(self, target: CommandTarget, change: Change, context: ActionContext) -> Outcome:
        """Run it to its end. Raises Interrupted (unknown) when it was ended or killed."""
        plan = self._plan(target)
        if dict(change.after) != plan:
            raise PermanentError("the command is no longer the one that was shown", reason="changed")
        program = self._program(target)
        ended = await target.execute(plan["argv"], program.timeout, _variables(context), context.check_deadline)
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

    async def verify(self, target: CommandTarget, change: Change, context: ActionContext) -> None:
        """Where the operator named ``done_if``, it must now succeed."""
        program = target.commands.get(self.command)
        if program is not None and program.done_if is not None:
            done, words = await self._ask(target, program.done_if, context)
            if not done:
                raise TemporaryError(f"{program.done_if} does not succeed yet: {words}", reason="not_done")

    async def reconcile(self, target: CommandTarget, change: Change, context: ActionContext) -> Happened:
        """What ``done_if`` says; unknown without it."""
        program = target.commands.get(self.command)
        if program is None or program.done_if is None:
            return Happened.UNKNOWN
        done, _ = await self._ask(target, program.done_if, context)
        return Happened.YES if done else Happened.NO

    def reversible(self, target: CommandTarget) -> bool:
        """Only where the settings name a command that undoes it; one that they do not know is refused elsewhere."""
        program = target.commands.get(self.command)
        return program is None or program.undo is not None

    def inverse(self, change: Change) -> Run | None:
        """The command's ``undo`` with the same parameters; None if the operator named none."""
        undo = change.volatile.get("undo")
        if not undo:
            return None
        return Run(command=undo, parameters=dict(change.volatile.get("parameters", {})))


def _variables(context: ActionContext) -> dict[str, str]:
    """What a command learns about the run it is part of."""
    return {
        "REMEDIATOR_RUN_ID": context.run_id,
        "REMEDIATOR_STEP": context.step,
        "REMEDIATOR_ATTEMPT": str(context.attempt),
        "REMEDIATOR_KEY": context.key,
    }
