"""``compose.stop``: end the containers of a service and keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.compose._container import Container, numbers, of_service
from remediator.integrations.compose._names import Grace, Number, Service
from remediator.integrations.compose.target import ComposeTarget

if TYPE_CHECKING:
    from remediator.integrations.compose.start import Start


class Stop(Action[ComposeTarget]):
    """Stops the running containers of a service, all at once; they are kept and can be started again."""

    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    service: Service = Field(description="The service.")
    containers: list[Number] | None = Field(
        default=None, min_length=1, description="Only these of its containers (numbers); used to take a start back."
    )
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
        found = await (await target.engine()).containers()
        return [each for each in of_service(found, self.service, self.containers) if each.running]

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The containers that run now, and none. Raises PermanentError for a container that is not there."""
        running = numbers(await self._running(target))
        return Change(
            summary=f"stop {self.service} ({len(running)} containers run)",
            before={"running": running},
            after={"running": []},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Stop those of the shown containers that still run."""
        shown = set(change.before["running"])
        left = [each for each in await self._running(target) if each.number in shown]
        await (await target.engine()).stop(left, self.grace, context.check_deadline)
        return Outcome(summary=f"{self.service} is stopped", data={"containers": numbers(left)})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """None of the shown containers runs any more."""
        if left := set(change.before["running"]) & set(numbers(await self._running(target))):
            raise TemporaryError(f"container {min(left)} of {self.service} still runs", reason="not_stopped")

    def inverse(self, change: Change) -> Start | None:
        """Start the containers that ran before."""
        from remediator.integrations.compose.start import Start

        ran = list(change.before["running"])
        return Start(service=self.service, containers=ran) if ran else None
