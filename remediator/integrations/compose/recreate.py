"""``compose.recreate``: make the containers of a service anew, as the files say them now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import TemporaryError
from remediator.integrations.compose import _cli
from remediator.integrations.compose._container import Container, of_service
from remediator.integrations.compose._names import Service
from remediator.integrations.compose.target import ComposeTarget


class Recreate(Action[ComposeTarget]):
    """Applies changed environment and Compose files to one service and to nothing that it depends on.

    There is something to do exactly when the hash of the service's configuration is not the one its containers were
    made with. `force: true` makes them anew in any case.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"force"})

    service: Service = Field(description="The service.")
    force: bool = Field(default=False, description="Make the containers anew although nothing has changed.")

    def effect_on(self, target: ComposeTarget) -> Effect:
        """By force it is not the same twice, but the new containers can be seen."""
        return Effect.PROBE if self.force else Effect.IDEMPOTENT

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    def subject(self) -> str:
        """``service/<name>``."""
        return f"service/{self.service}"

    async def _containers(self, target: ComposeTarget) -> list[Container]:
        return of_service(await (await target.engine()).containers(), self.service)

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The hashes the containers were made with, and the one of the files now."""
        found = await self._containers(target)
        wanted = (await _cli.config_hashes(target, [self.service]))[self.service]
        before: dict[str, Any] = {"configurations": sorted({each.hash for each in found})}
        after: dict[str, Any] = {"configurations": [wanted]}
        if self.force:
            after["forced"] = True
        return Change(
            summary=f"recreate {self.service} ({len(found)} containers)",
            before=before,
            after=after,
            volatile={"containers": sorted(each.id for each in found)},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Let Compose bring this one service up. Raises TemporaryError if the files changed since they were read."""
        wanted = await _cli.config_hashes(target, [self.service])
        if list(wanted.values()) != change.after["configurations"]:
            raise TemporaryError("the Compose files changed since they were looked at", reason="changed")
        flags = ["--force-recreate"] if self.force else []
        await _cli.up(target, [self.service], *flags, check=context.check_deadline)
        return Outcome(summary=f"{self.service} is recreated", data=dict(change.after))

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """Every container has the wanted configuration, runs, and is healthy if it has a health check."""
        for each in await self._containers(target):
            if [each.hash] != change.after["configurations"] or not each.well:
                text = f"container {each.number} of {self.service} is {each.state} ({each.health}) or an old one"
                raise TemporaryError(text, reason="not_running")

    async def reconcile(self, target: ComposeTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if all containers are other ones than before, no if all are the same, else unknown."""
        now = {each.id for each in await self._containers(target)}
        before = set(change.volatile["containers"])
        return Happened.YES if not now & before else Happened.NO if now == before else Happened.UNKNOWN
