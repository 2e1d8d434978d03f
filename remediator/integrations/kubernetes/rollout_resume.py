"""``kubernetes.rollout_resume``: let a deployment's rollouts go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.action import ActionContext, Change, Effect, Outcome
from remediator.integrations.kubernetes._pause import PauseOrResume
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes.rollout_pause import RolloutPause


class RolloutResume(PauseOrResume):
    """Lets the rollouts of a paused deployment go on, with every change that was made meanwhile."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Whether it is paused now. Raises TemporaryError, PermanentError."""
        return await self.change_to(target, False, "resume")

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the flag, if it still is as it was."""
        await self.set_flag(target, change, context)
        return Outcome(summary=f"the rollouts of {self.thing} are resumed", data=dict(change.after))

    def inverse(self, change: Change) -> RolloutPause:
        """Pause it again."""
        from remediator.integrations.kubernetes.rollout_pause import RolloutPause

        return RolloutPause(namespace=self.namespace, deployment=self.deployment)
