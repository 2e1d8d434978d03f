"""``kubernetes.uncordon``: let a node take new pods again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.action import ActionContext, Change, Effect, Outcome
from remediator.integrations.kubernetes._node import CordonOrUncordon
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes.cordon import Cordon


class Uncordon(CordonOrUncordon):
    """Opens a node for new pods."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Whether it takes pods now. Raises TemporaryError, PermanentError."""
        return await self.change_to(target, False, "uncordon")

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Open it, if it still is as it was."""
        await self.set_flag(target, change, context)
        return Outcome(summary=f"{self.thing} takes new pods", data=dict(change.after))

    def inverse(self, change: Change) -> Cordon:
        """Close it again."""
        from remediator.integrations.kubernetes.cordon import Cordon

        return Cordon(node=self.node)
