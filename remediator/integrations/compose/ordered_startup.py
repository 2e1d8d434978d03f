"""``compose.ordered_startup``: start the project stage by stage, waiting until each is up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.compose import _order
from remediator.integrations.compose._names import EVERYTHING, Service
from remediator.integrations.compose.ordered_shutdown import OrderedShutdown
from remediator.integrations.compose.target import ComposeTarget, Name, Stage


class OrderedStartup(Action[ComposeTarget]):
    """Goes through the target's `startup` stages: starts what does not run, then waits until it is well.

    A service is well when it runs and, where it has a health check, is healthy; the stage's checks must hold too. Done
    again after a crash it goes on where it was: what runs is left alone. A stage that waits in vain ends it half way.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"stages", "services"})

    stages: list[Name] | None = Field(
        default=None, min_length=1, max_length=50, description="Only these stages, in the order of the settings."
    )
    services: list[Service] | None = Field(
        default=None, min_length=1, max_length=100, description="Only these services; used to take a shutdown back."
    )

    def needs(self) -> Mapping[str, str]:
        """Everything must be permitted."""
        return EVERYTHING

    def _stages(self, target: ComposeTarget) -> list[Stage]:
        return _order.chosen(target.startup, self.stages, self.services)

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The order, and the state of every service now and afterwards."""
        stages = self._stages(target)
        states = _order.look(stages, await (await target.engine()).containers())
        order = [stage.model_dump(mode="json") for stage in stages]
        text = ", then ".join(" and ".join(service for service in stage.services) for stage in stages)
        return Change(
            summary=f"start {text}"[:500],
            before={"order": order, "services": states},
            after={"order": order, "services": dict.fromkeys(states, "running")},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Go through the shown stages. Raises Unfinished where a stage waited in vain."""
        stages = [Stage.model_validate(stage) for stage in change.after["order"]]
        started = await _order.start_up(target, stages, context.check_deadline)
        return Outcome(summary=f"{target.project} is started", data={"started": started})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """Every service runs and is healthy if it has a health check."""
        services = set(change.after["services"])
        for each in await (await target.engine()).containers():
            if each.service in services and not each.well:
                raise TemporaryError(f"{each.service} is {each.state} ({each.health})", reason="not_running")

    def inverse(self, change: Change) -> OrderedShutdown | None:
        """Stop, in the order of stopping, the services that did not run before."""
        down = sorted(name for name, state in change.before["services"].items() if state != "running")
        return OrderedShutdown(services=down) if down else None
