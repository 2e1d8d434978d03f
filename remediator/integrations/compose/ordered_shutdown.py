"""``compose.ordered_shutdown``: stop the project stage by stage, waiting until each has drained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.compose import _order
from remediator.integrations.compose._names import EVERYTHING, Grace, Service
from remediator.integrations.compose.target import ComposeTarget, Name, Stage

if TYPE_CHECKING:
    from remediator.integrations.compose.ordered_startup import OrderedStartup


class OrderedShutdown(Action[ComposeTarget]):
    """Goes through the target's `shutdown` stages: stops what still runs, then waits for the stage's checks.

    Done again after a crash it goes on where it was: what is stopped is left alone. A stage that waits in vain ends
    it half way, and nothing after it is stopped. A person says yes to it in every mode.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"stages", "services"})

    stages: list[Name] | None = Field(
        default=None, min_length=1, max_length=50, description="Only these stages, in the order of the settings."
    )
    services: list[Service] | None = Field(
        default=None, min_length=1, max_length=100, description="Only these services; used to take a startup back."
    )
    grace: Grace | None = Field(
        default=None, description="Seconds a container gets to end before it is killed; its own if absent."
    )

    def needs_approval(self, target: ComposeTarget) -> bool:
        """The whole system stops."""
        return True

    def needs(self) -> Mapping[str, str]:
        """Everything must be permitted."""
        return EVERYTHING

    def _stages(self, target: ComposeTarget) -> list[Stage]:
        return _order.chosen(target.shutdown_stages(), self.stages, self.services)

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The order, and the services that run now and afterwards."""
        stages = self._stages(target)
        running = _order.runs(stages, await (await target.engine()).containers())
        order = [stage.model_dump(mode="json") for stage in stages]
        text = ", then ".join(" and ".join(service for service in stage.services) for stage in stages)
        return Change(
            summary=f"stop {text}"[:500],
            before={"order": order, "running": running},
            after={"order": order, "running": []},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Go through the shown stages. Raises Unfinished where a stage waited in vain."""
        stages = [Stage.model_validate(stage) for stage in change.after["order"]]
        stopped = await _order.shut_down(target, stages, self.grace, context.check_deadline)
        return Outcome(summary=f"{target.project} is shut down", data={"stopped": stopped})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """None of the services runs."""
        if left := _order.runs(self._stages(target), await (await target.engine()).containers()):
            raise TemporaryError(f"{', '.join(left)} still runs", reason="not_stopped")

    def inverse(self, change: Change) -> OrderedStartup | None:
        """Start, in the order of starting, the services that ran before."""
        from remediator.integrations.compose.ordered_startup import OrderedStartup

        ran = list(change.before["running"])
        return OrderedStartup(services=ran) if ran else None
