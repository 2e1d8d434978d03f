"""``systemd.restart``: restart a unit that the settings list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.systemd import _manager
from remediator.integrations.systemd._manager import State, Unit
from remediator.integrations.systemd.target import SystemdTarget


class Restart(Action[SystemdTarget]):
    """Restarts a unit that runs or has failed, and waits until it is active again.

    A unit that is stopped is left alone: somebody did that on purpose.
    """

    effect: ClassVar[Effect] = Effect.PROBE

    unit: Unit = Field(description="The unit's full name, such as `redis.service`.")

    def needs(self) -> Mapping[str, str]:
        """The unit must be listed."""
        return {"units": self.unit}

    def subject(self) -> str:
        """``unit/<name>``."""
        return f"unit/{self.unit}"

    async def _running(self, target: SystemdTarget) -> State:
        state = await _manager.show(target, self.unit)
        if state.active == "inactive":
            raise PermanentError(f"{self.unit} is stopped, which somebody did on purpose", reason="stopped")
        return state

    async def diff(self, target: SystemdTarget, context: ActionContext) -> Change:
        """The unit as it is, and restarted; never empty. Raises PermanentError if it is stopped or not there."""
        state = await self._running(target)
        return Change(
            summary=f"restart {self.unit}, which is {state.active}",
            before={"unit": self.unit, "active": state.active},
            after={"unit": self.unit, "active": "active", "restarted": True},
            # Not for the approver: a unit that crashes all the time is another invocation every few seconds.
            volatile={"invocation": state.invocation},
        )

    async def apply(self, target: SystemdTarget, change: Change, context: ActionContext) -> Outcome:
        """Restart it, if it has not started anew since it was looked at."""
        state = await self._running(target)
        if state.invocation != change.volatile["invocation"]:
            raise TemporaryError(f"{self.unit} has started anew since it was looked at", reason="changed")
        await _manager.restart(target, self.unit, context.check_deadline)
        return Outcome(summary=f"{self.unit} is restarted", data={"unit": self.unit})

    async def verify(self, target: SystemdTarget, change: Change, context: ActionContext) -> None:
        """It is active, as another invocation than before."""
        state = await _manager.show(target, self.unit)
        if state.active == "failed":
            raise PermanentError(f"{self.unit} fails when it starts ({state.result})", reason="failed")
        if state.active != "active" or state.invocation == change.volatile["invocation"]:
            raise TemporaryError(f"{self.unit} is {state.active} ({state.sub}), not active anew", reason="not_active")

    async def reconcile(self, target: SystemdTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if it is another invocation than before; no if it is the same one and still runs; else unknown."""
        state = await _manager.show(target, self.unit)
        if state.invocation != change.volatile["invocation"]:
            return Happened.YES
        return Happened.NO if state.active == change.before["active"] else Happened.UNKNOWN
