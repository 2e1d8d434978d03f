"""``pm2.restart``: end the instances of a process and start them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._daemon import Process
from remediator.integrations.pm2._names import ALL, Name, permission, subject
from remediator.integrations.pm2.target import Pm2Target


class Restart(Action[Pm2Target]):
    """Restarts the instances of a process that are not stopped, with the environment they were started with.

    What somebody has stopped stays stopped. `process: all` restarts everything the daemon runs: it needs `*` in
    `permit.processes`, and a person says yes to it in every mode.
    """

    effect: ClassVar[Effect] = Effect.PROBE

    process: Name = Field(description="The process's name, or `all`.")

    def effect_on(self, target: Pm2Target) -> Effect:
        """Restarting everything is never guessed at after a crash."""
        return Effect.ONCE if self.process == ALL else Effect.PROBE

    def needs_approval(self, target: Pm2Target) -> bool:
        """Everything at once is a whole system."""
        return self.process == ALL

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    def subject(self) -> str:
        """``process/<name>``."""
        return subject(self.process)

    async def _running(self, target: Pm2Target) -> list[Process]:
        running = [each for each in await _daemon.processes(target, self.process) if not each.stopped]
        if not running:
            raise PermanentError(
                f"{self.process} is stopped, which somebody did on purpose; pm2.start starts it", reason="stopped"
            )
        return running

    async def diff(self, target: Pm2Target, context: ActionContext) -> Change:
        """The instances that would be restarted; never empty. Raises PermanentError if all are stopped."""
        running = await self._running(target)
        names = {str(each.id): each.name for each in running}
        return Change(
            summary=f"restart {len(running)} of pm2's instances: {', '.join(sorted(set(names.values())))}"[:500],
            before={"running": names},
            after={"running": names, "restarted": sorted(names, key=int)},
            # Not for the approver: a process that crashes all the time has another pid every few seconds.
            volatile={"lives": {str(each.id): each.life for each in running}},
        )

    async def apply(self, target: Pm2Target, change: Change, context: ActionContext) -> Outcome:
        """Restart exactly those instances, if none of them has started anew since it was looked at."""
        running = await self._running(target)
        if {str(each.id): each.life for each in running} != change.volatile["lives"]:
            raise TemporaryError(f"{self.process} has started anew since it was looked at", reason="changed")
        ids = list(change.after["restarted"])
        await _daemon.tell(target, ["restart", *ids], context.check_deadline)
        return Outcome(summary=f"{self.process} is restarted", data={"instances": ids})

    async def verify(self, target: Pm2Target, change: Change, context: ActionContext) -> None:
        """Every instance is online, in another life than before."""
        found = {str(each.id): each for each in await _daemon.processes(target, self.process)}
        for id, life in change.volatile["lives"].items():
            each = found.get(id)
            if each is not None and each.status == "errored":
                raise PermanentError(f"instance {id} of {self.process} fails as soon as it starts", reason="errored")
            if each is None or each.status != "online" or each.life == life:
                raise TemporaryError(f"instance {id} of {self.process} is not online yet", reason="not_online")

    async def reconcile(self, target: Pm2Target, change: Change, context: ActionContext) -> Happened:
        """Yes if every instance has a new life, no if none has, unknown if some have."""
        found = {str(each.id): each.life for each in await _daemon.processes(target, self.process)}
        anew = [found.get(id) != life for id, life in change.volatile["lives"].items()]
        return Happened.YES if all(anew) else Happened.UNKNOWN if any(anew) else Happened.NO
