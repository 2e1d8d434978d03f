"""``pm2.stop``: end the instances of a process and keep them ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._names import ALL, Id, Name, permission, subject
from remediator.integrations.pm2.target import Pm2Target

if TYPE_CHECKING:
    from remediator.integrations.pm2.start import Start


class Stop(Action[Pm2Target]):
    """Stops a process; what is stopped already is left alone. `process: all` stops everything the daemon runs.

    That needs `*` in `permit.processes`, and a person says yes to it in every mode.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    process: Name = Field(description="The process's name, or `all`.")
    instances: list[Id] | None = Field(
        default=None, min_length=1, description="Only these of its instances; used to take a start back."
    )

    def needs_approval(self, target: Pm2Target) -> bool:
        """Everything at once is a whole system."""
        return self.process == ALL

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    def subject(self) -> str:
        """``process/<name>``."""
        return subject(self.process)

    async def _running(self, target: Pm2Target) -> list[int]:
        found = await _daemon.processes(target, self.process, self.instances)
        return [each.id for each in found if each.status != "stopped"]

    async def diff(self, target: Pm2Target, context: ActionContext) -> Change:
        """The instances that run now, and none. Raises PermanentError for an instance that is not there."""
        running = await self._running(target)
        return Change(
            summary=f"stop {self.process} ({len(running)} instances run)",
            before={"running": running},
            after={"running": []},
        )

    async def apply(self, target: Pm2Target, change: Change, context: ActionContext) -> Outcome:
        """Stop those of the shown instances that still run."""
        ids = sorted(set(change.before["running"]) & set(await self._running(target)))
        if ids:
            await _daemon.tell(target, ["stop", *map(str, ids)], context.check_deadline)
        return Outcome(summary=f"{self.process} is stopped", data={"instances": ids})

    async def verify(self, target: Pm2Target, change: Change, context: ActionContext) -> None:
        """None of the shown instances runs any more."""
        if left := set(change.before["running"]) & set(await self._running(target)):
            raise TemporaryError(f"instance {min(left)} of {self.process} still runs", reason="not_stopped")

    def inverse(self, change: Change) -> Start | None:
        """Start the instances that ran before."""
        from remediator.integrations.pm2.start import Start

        ids = list(change.before["running"])
        return Start(process=self.process, instances=ids) if ids else None
