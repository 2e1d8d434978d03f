"""What would change: a step with its parameters filled in, its permissions asked, and its difference told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator import acting
from remediator.action import Action, Change
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, InputError, PermanentError
from remediator.looking import Looking
from remediator.moves import Stop
from remediator.planning import make_action
from remediator.redact import redact
from remediator.rule import Step
from remediator.run import Lock, State
from remediator.target import Target


@dataclass(slots=True)
class Ready:
    """A step with everything that must be known before it may act."""

    index: int
    step: Step
    action: Action[Any]
    target: Target
    change: Change
    parameters: Mapping[str, Any]
    shown_change: Mapping[str, Any]
    """The change without secrets, as it is kept and shown."""
    digest: str
    """The digest of the change, computed once."""

    def shown(self, step_id: str) -> dict[str, Any]:
        """What an approver sees and what the answer is bound to."""
        return {
            "step": self.index,
            "id": step_id,
            "uses": self.step.uses,
            "target": self.step.target,
            "parameters": self.parameters,
            "change": self.shown_change,
            "digest": self.digest,
        }


class Preparing(Looking):
    """The room in which a step is made ready and nothing is written outside."""

    async def _ready(self, index: int, *, diff: bool = True) -> Ready:
        step = self.script[index]
        target = self.world.targets.get(step.target)
        if target is None:
            await self.stop(State.DENIED, "no_target", f'no target is named "{step.target}" any more')
        try:
            action = make_action(step, self.known(), self.world.registry)
        except InputError as error:
            await self.stop(State.DENIED, "parameters", f"step {self.step_id(index)}: {redact(str(error))}")
        refusal = target.refusal(step.uses, action.needs())
        if refusal is not None:
            await self.stop(State.DENIED, "not_permitted", refusal)
        lock = Lock(step.target, action.subject(), target.max_runs)
        if not self.holds_lock(lock):
            message = f'the settings or the rule changed what step {self.step_id(index)} acts on ("{lock.subject}")'
            await self.stop(State.DENIED, "locks", message)
        parameters = redact(action.model_dump(mode="json", by_alias=True, exclude_unset=True))
        if not diff:
            shown = self.step(index)["change"]
            return Ready(index, step, action, target, Change.from_json(shown), parameters, shown, shown["digest"])
        change = await self._diff(index, action, target)
        told = change.as_json()
        shown, digest = redact(told), change.digest
        self.set_step(index, parameters=parameters, change={**shown, "digest": digest}, masked=shown != told)
        crashpoint("engine.after_diff")
        return Ready(index, step, action, target, change, parameters, shown, digest)

    def holds_lock(self, lock: Lock) -> bool:
        """Whether this run is alone, as far as it must be, with what ``lock`` is about."""
        return any(held.target == lock.target and held.subject in ("", lock.subject) for held in self.run.locks)

    async def _diff(self, index: int, action: Action[Any], target: Target) -> Change:
        step = self.script[index]
        try:
            async with asyncio.timeout(step.timeout):
                return await action.diff(target, self.context(index))
        except TimeoutError:
            error: ActionError = PermanentError(f"{step.uses} did not tell its change in time", reason="timeout")
        except ActionError as raised:
            error = raised
        await acting.failed(self, index, error)
        raise Stop

    def _already(self, ready: Ready) -> None:
        outcome = {"summary": f"nothing to do: {ready.change.summary}", "data": dict(ready.change.after)}
        self.set_step(ready.index, state="done", outcome=outcome, reason="already")

    async def _following(self, ready: Ready, last: int) -> list[Ready]:
        """``ready`` and the steps up to ``last`` whose change can be told now; the others ask when their turn comes."""
        found = [ready]
        for index in range(ready.index + 1, last):
            step = self.script[index]
            if not step.uses or "steps" in acting.roots_of(step):
                break
            found.append(await self._ready(index))
        return found
