"""``pm2.scale``: change how many instances of a process there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._instances import LITERAL, Instances
from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._names import ALL, Name, permission, subject
from remediator.integrations.pm2.target import Pm2Target


class Scale(Instances, Action[Pm2Target]):
    """Sets the number of instances. What is relative in the rule (`by: 2`) is an absolute number in the change.

    Exactly one of `at_least`, `at_most`, `by` and `exact` says how many. Whatever can raise needs `max`; nothing
    goes below `min`, which is at least 1. A process that somebody has stopped is left alone.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = LITERAL

    process: Name = Field(description="The process's name.")

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    def subject(self) -> str:
        """``process/<name>``."""
        return subject(self.process)

    async def _count(self, target: Pm2Target) -> int:
        if self.process == ALL:
            raise PermanentError("all is not one process; name the one to scale", reason="parameter")
        found = await _daemon.processes(target, self.process)
        if all(each.stopped for each in found):
            raise PermanentError(
                f"{self.process} is stopped, which somebody did on purpose; pm2.start starts it", reason="stopped"
            )
        return len(found)

    async def diff(self, target: Pm2Target, context: ActionContext) -> Change:
        """Instances now and wanted."""
        current = await self._count(target)
        wanted = self.wanted(current)
        return Change(
            summary=f"scale {self.process} from {current} to {wanted}",
            before={"instances": current},
            after={"instances": wanted},
        )

    async def apply(self, target: Pm2Target, change: Change, context: ActionContext) -> Outcome:
        """Set the number shown, if there are still as many as shown. Raises TemporaryError if there are others."""
        current, wanted = await self._count(target), int(change.after["instances"])
        if current not in (wanted, change.before["instances"]):
            raise TemporaryError(f"{self.process} has {current} instances by now", reason="changed")
        if current != wanted:
            # pm2 answers scaling to the number there is with an error.
            await _daemon.tell(target, ["scale", self.process, str(wanted)], context.check_deadline)
        return Outcome(summary=f"{self.process} is scaled to {wanted}", data={"instances": wanted})

    async def verify(self, target: Pm2Target, change: Change, context: ActionContext) -> None:
        """There are as many instances as wanted, and all are online."""
        found = await _daemon.processes(target, self.process)
        online = sum(each.status == "online" for each in found)
        if len(found) != change.after["instances"] or online < len(found):
            raise TemporaryError(f"{online} of {len(found)} instances are online", reason="not_online")

    def inverse(self, change: Change) -> Scale:
        """Back to the number of before, only if there are still as many as after."""
        before, after = int(change.before["instances"]), int(change.after["instances"])
        return Scale(process=self.process, exact=before, max=max(before, after), allow_down=True, only_from=after)
