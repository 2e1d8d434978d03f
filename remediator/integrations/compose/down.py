"""``compose.down``: stop and remove every container of the project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import ActionError, TemporaryError
from remediator.integrations.compose._container import Unfinished
from remediator.integrations.compose._names import EVERYTHING, Grace
from remediator.integrations.compose.target import ComposeTarget


class Down(Action[ComposeTarget]):
    """Stops all containers of the project at once, and removes them and the project's networks.

    Named volumes are kept. For an emergency: nothing is drained. A person says yes to it in every mode, and
    `permit.services` needs the entry `*`.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    grace: Grace = Field(default=10, description="Seconds a container gets to end before it is killed.")

    def needs_approval(self, target: ComposeTarget) -> bool:
        """The whole system goes."""
        return True

    def needs(self) -> Mapping[str, str]:
        """Everything must be permitted."""
        return EVERYTHING

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The services with their numbers of containers, and nothing."""
        found = Counter(each.service for each in await (await target.engine()).containers())
        return Change(
            summary=f"stop and remove everything of {target.project}: {', '.join(sorted(found))}"[:500],
            before={"containers": dict(found)},
            after={"containers": {}},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Stop what still runs, then remove what is there: done again after a crash it goes on where it was."""
        engine = await target.engine()
        found = await engine.containers()
        context.check_deadline()
        await engine.stop([each for each in found if each.running], self.grace, context.check_deadline)
        # From here on the licence was used: what follows is the same effect, and finishing it is its meaning.
        try:
            await engine.remove(found, lambda: None)
            await engine.remove_networks()
        except ActionError as error:
            raise Unfinished(f"everything is stopped, but {error}") from error
        return Outcome(summary=f"{target.project} is down", data={"removed": len(found)})

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """No container of the project is left."""
        if left := await (await target.engine()).containers():
            raise TemporaryError(f"{len(left)} containers are still there", reason="not_removed")
