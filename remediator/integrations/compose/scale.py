"""``compose.scale``: change how many containers a service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._instances import LITERAL, Instances
from remediator.integrations.compose import _cli
from remediator.integrations.compose._container import Container, of_service
from remediator.integrations.compose._names import Service
from remediator.integrations.compose.target import ComposeTarget


class Scale(Instances, Action[ComposeTarget]):
    """Sets the number of containers of a service; the ones that stay, and all other services, are left as they are.

    Exactly one of `at_least`, `at_most`, `by` and `exact` says how many. Whatever can raise needs `max`; nothing
    goes below `min`, which is at least 1. A service with a `container_name` or a published port of its own cannot
    have more than one container and is refused.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = LITERAL

    service: Service = Field(description="The service.")

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """``service/<name>``."""
        return f"service/{self.service}"

    async def _containers(self, target: ComposeTarget) -> list[Container]:
        found = of_service(await (await target.engine()).containers(), self.service)
        if not any(each.running for each in found):
            raise PermanentError(
                f"{self.service} is stopped, which somebody did on purpose; compose.start starts it", reason="stopped"
            )
        return found

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """Containers now and wanted. Raises PermanentError for a service that cannot be scaled."""
        current = len(await self._containers(target))
        wanted = self.wanted(current)
        if wanted > max(current, 1):
            _check_scalable(self.service, await _cli.definition(target, self.service))
        return Change(
            summary=f"scale {self.service} from {current} to {wanted}",
            before={"containers": current},
            after={"containers": wanted},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Let Compose make it the number shown, if there are still as many as shown."""
        current, wanted = len(await self._containers(target)), int(change.after["containers"])
        if current not in (wanted, change.before["containers"]):
            raise TemporaryError(f"{self.service} has {current} containers by now", reason="changed")
        flags = ["--no-recreate", "--scale", f"{self.service}={wanted}"]
        await _cli.up(target, [self.service], *flags, check=context.check_deadline)
        return Outcome(summary=f"{self.service} is scaled to {wanted}", data={"containers": wanted})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """There are as many containers as wanted; all run and are healthy if they have a health check."""
        found = await self._containers(target)
        well = sum(each.well for each in found)
        if len(found) != change.after["containers"] or well < len(found):
            raise TemporaryError(f"{well} of {len(found)} containers are up", reason="not_running")

    def inverse(self, change: Change) -> Scale:
        """Back to the number of before, only if there are still as many as after."""
        before, after = int(change.before["containers"]), int(change.after["containers"])
        return Scale(service=self.service, exact=before, max=max(before, after), allow_down=True, only_from=after)


def _check_scalable(service: str, definition: Mapping[str, Any]) -> None:
    """Raises PermanentError where a second container would collide with the first."""
    if name := definition.get("container_name"):
        raise PermanentError(f'{service} has container_name: {name}, so there can be only one', reason="container_name")
    for port in definition.get("ports") or []:
        published = str(port.get("published") or "") if isinstance(port, Mapping) else str(port).rpartition(":")[0]
        fixed = published.rpartition(":")[2]
        if fixed and fixed != "0" and "-" not in fixed:
            raise PermanentError(f"{service} publishes the fixed port {fixed}, so there can be only one", reason="port")
