"""``pm2.start``: start the stopped instances of a process that pm2 knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._names import Id, Name, permission, subject
from remediator.integrations.pm2.stop import Stop
from remediator.integrations.pm2.target import Pm2Target

_RUNS = ("online", "launching", "waiting restart")


class Start(Action[Pm2Target]):
    """Starts what is stopped or has failed for good; what runs is left alone, which `pm2 start` itself would restart.

    `process: all` starts everything that the daemon knows and needs `*` in `permit.processes`.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    process: Name = Field(description="The process's name, or `all`.")
    instances: list[Id] | None = Field(
        default=None, min_length=1, description="Only these of its instances; used to take a stop back."
    )

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    def subject(self) -> str:
        """``process/<name>``."""
        return subject(self.process)

    async def _ended(self, target: Pm2Target) -> list[int]:
        found = await _daemon.processes(target, self.process, self.instances)
        return [each.id for each in found if each.status not in _RUNS]

    async def diff(self, target: Pm2Target, context: ActionContext) -> Change:
        """The instances that do not run now, and none. Raises PermanentError for an instance that is not there."""
        ended = await self._ended(target)
        return Change(
            summary=f"start {self.process} ({len(ended)} instances do not run)",
            before={"stopped": ended},
            after={"stopped": []},
        )

    async def apply(self, target: Pm2Target, change: Change, context: ActionContext) -> Outcome:
        """Start those of the shown instances that still do not run."""
        ids = sorted(set(change.before["stopped"]) & set(await self._ended(target)))
        if ids:
            await _daemon.tell(target, ["start", *map(str, ids)], context.check_deadline)
        return Outcome(summary=f"{self.process} is started", data={"instances": ids})

    async def verify(self, target: Pm2Target, change: Change, context: ActionContext) -> None:
        """Every shown instance is online."""
        for each in await _daemon.processes(target, self.process, change.before["stopped"]):
            if each.status == "errored":
                raise PermanentError(f"instance {each.id} of {self.process} fails when it starts", reason="errored")
            if each.status != "online":
                raise TemporaryError(f"instance {each.id} of {self.process} is not online yet", reason="not_online")

    def inverse(self, change: Change) -> Stop | None:
        """Stop the instances that did not run before."""
        ids = list(change.before["stopped"])
        return Stop(process=self.process, instances=ids) if ids else None
