"""``kubernetes.cordon``: let a node take no new pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.action import ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._grant import Grant, grants_in
from remediator.integrations.kubernetes._node import CordonOrUncordon, Node
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes.uncordon import Uncordon


class Cordon(CordonOrUncordon):
    """Closes a node for new pods; those that run there stay.

    Where too many nodes are closed already, whoever closed them, it refuses: then the nodes are not the problem.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"max_cordoned"})

    max_cordoned: int = Field(
        default=1, ge=1, le=1000, description="At most so many nodes may be closed afterwards, this one included."
    )

    def grants(self) -> list[Grant]:
        """Reading and patching the node, listing all nodes."""
        return super().grants() + grants_in("node", "", "list")

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Whether it takes pods now. Raises TemporaryError; PermanentError where too many are closed."""
        change = await self.change_to(target, True, "cordon")
        if not change.empty:
            nodes = await (await target.cluster()).list_all("node", "", Node)
            closed = sorted(each.metadata.name for each in nodes if each.spec.unschedulable)
            if len(closed) >= self.max_cordoned:
                raise PermanentError(
                    f"{len(closed)} nodes are closed already ({', '.join(closed[:10])}); max_cordoned is "
                    f"{self.max_cordoned}",
                    reason="too_many",
                )
        return change

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Close it, if it still is as it was."""
        await self.set_flag(target, change, context)
        return Outcome(summary=f"{self.thing} takes no new pods", data=dict(change.after))

    def inverse(self, change: Change) -> Uncordon:
        """Open it again."""
        from remediator.integrations.kubernetes.uncordon import Uncordon

        return Uncordon(node=self.node)
