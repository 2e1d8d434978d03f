"""``kubernetes.rollout_pause``: stop a deployment's rollouts, the one under way too."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.action import ActionContext, Change, Effect, Outcome
from remediator.integrations.kubernetes._pause import PauseOrResume
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes.rollout_resume import RolloutResume


class RolloutPause(PauseOrResume):
    """Stops the rollouts of a deployment: what is half way stays half way until it is resumed."""

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Whether it is paused now. Raises TemporaryError, PermanentError."""
        return await self.change_to(target, True, "pause")

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the flag, if it still is as it was."""
        await self.set_flag(target, change, context)
        return Outcome(summary=f"the rollouts of {self.thing} are paused", data=dict(change.after))

    def inverse(self, change: Change) -> RolloutResume:
        """Resume it again."""
        from remediator.integrations.kubernetes.rollout_resume import RolloutResume

        return RolloutResume(namespace=self.namespace, deployment=self.deployment)
