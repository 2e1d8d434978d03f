"""``compose.start``: start the stopped containers of a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.compose._container import Container, numbers, of_service
from remediator.integrations.compose._names import Number, Service
from remediator.integrations.compose.stop import Stop
from remediator.integrations.compose.target import ComposeTarget


class Start(Action[ComposeTarget]):
    """Starts the containers of a service that were stopped. It creates none: `compose.ordered_startup` does."""

    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    service: Service = Field(description="The service.")
    containers: list[Number] | None = Field(
        default=None, min_length=1, description="Only these of its containers (numbers); used to take a stop back."
    )

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """``service/<name>``."""
        return f"service/{self.service}"

    async def _containers(self, target: ComposeTarget) -> list[Container]:
        found = await (await target.engine()).containers()
        return of_service(found, self.service, self.containers)

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The containers that do not run now, and none. Raises PermanentError for a container that is not there."""
        stopped = numbers(each for each in await self._containers(target) if not each.running)
        return Change(
            summary=f"start {self.service} ({len(stopped)} containers do not run)",
            before={"stopped": stopped},
            after={"stopped": []},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Start those of the shown containers that still do not run."""
        shown = set(change.before["stopped"])
        left = [each for each in await self._containers(target) if each.number in shown and not each.running]
        await (await target.engine()).start(left, context.check_deadline)
        return Outcome(summary=f"{self.service} is started", data={"containers": numbers(left)})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """Every shown container runs, and is healthy if it has a health check."""
        shown = set(change.before["stopped"])
        for each in await self._containers(target):
            if each.number in shown and not each.well:
                text = f"container {each.number} of {self.service} is {each.state} ({each.health})"
                raise TemporaryError(text, reason="not_running")

    def inverse(self, change: Change) -> Stop | None:
        """Stop the containers that did not run before."""
        stopped = list(change.before["stopped"])
        return Stop(service=self.service, containers=stopped) if stopped else None
