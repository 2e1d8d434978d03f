"""``compose.restart``: restart the containers of a service as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose._container import Container, of_service
from remediator.integrations.compose._names import Grace, Service
from remediator.integrations.compose.target import ComposeTarget


class Restart(Action[ComposeTarget]):
    """Restarts the running containers of a service, all at once, with the environment they were created with.

    A change of the Compose file or of an environment file is *not* applied by a restart: `compose.recreate` does that.
    """

    effect: ClassVar[Effect] = Effect.PROBE

    service: Service = Field(description="The service.")
    grace: Grace | None = Field(
        default=None, description="Seconds a container gets to end before it is killed; its own if absent."
    )

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """``service/<name>``."""
        return f"service/{self.service}"

    async def _running(self, target: ComposeTarget) -> list[Container]:
        engine = await target.engine()
        running = [each for each in of_service(await engine.containers(), self.service) if each.running]
        if not running:
            raise PermanentError(
                f"{self.service} is stopped, which somebody did on purpose; compose.start starts it", reason="stopped"
            )
        return running

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The containers that would be restarted; never empty. Raises PermanentError if all are stopped."""
        found = await self._running(target)
        running = [each.number for each in found]
        return Change(
            summary=f"restart {self.service} ({len(running)} containers)",
            before={"running": running},
            after={"running": running, "restarted": running},
            # Not for the approver: a container that crashes all the time starts anew every few seconds.
            volatile={"lives": {each.id: each.started for each in found}},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Restart exactly those containers, if none of them has started anew since it was looked at."""
        running = await self._running(target)
        if {each.id: each.started for each in running} != change.volatile["lives"]:
            raise TemporaryError(f"{self.service} has started anew since it was looked at", reason="changed")
        engine = await target.engine()
        await engine.restart(running, self.grace, context.check_deadline)
        return Outcome(summary=f"{self.service} is restarted", data={"containers": list(change.after["restarted"])})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """Every container runs, and is healthy if it has a health check, in another life than before."""
        found = {each.id: each for each in await (await target.engine()).containers()}
        for id, life in change.volatile["lives"].items():
            each = found.get(id)
            if each is not None and each.health == "unhealthy":
                raise TemporaryError(f"container {each.number} of {self.service} is unhealthy", reason="unhealthy")
            if each is None or not each.well or each.started == life:
                raise TemporaryError(f"a container of {self.service} is not up again yet", reason="not_running")

    async def reconcile(self, target: ComposeTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if every container runs in a new life, no if each runs in its old one, else unknown."""
        found = {each.id: each for each in await (await target.engine()).containers() if each.running}
        lives = {id: each.started for id, each in found.items()}
        anew = [lives.get(id) != life for id, life in change.volatile["lives"].items()]
        if not set(change.volatile["lives"]) <= set(lives):
            return Happened.UNKNOWN
        return Happened.YES if all(anew) else Happened.UNKNOWN if any(anew) else Happened.NO
