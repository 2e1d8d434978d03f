"""``kubernetes.rollout_restart``: replace all pods of a deployment or stateful set, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from remediator.action import ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import format_instant
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._rollout import complete, refuse_standstill
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._workload import OnWorkload
from remediator.integrations.kubernetes.target import KubernetesTarget

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
RESTARTED_BY = "remediator.io/restarted-by"


class RolloutRestart(OnWorkload):
    """Restarts as `kubectl rollout restart` does, by an annotation of the pod template, and waits for the rollout.

    The annotation names the step of the run: the same step never restarts twice, also after a crash. What is paused
    is not restarted, because nothing would happen until it is resumed.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    def _seen(self, found: Workload) -> dict[str, Any]:
        notes = (found.spec.template.get("metadata") or {}).get("annotations") or {}
        return {"restarted_by": notes.get(RESTARTED_BY, ""), "restarted_at": notes.get(RESTARTED_AT, "")}

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """A restart, unless this step has already made it. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        found = await cluster.get(self.thing, Workload)
        before = self._seen(found)
        if before["restarted_by"] == context.key:
            return Change(summary=f"{self.thing} has been restarted by this step", before=before, after=before)
        refuse_standstill(self.thing, found)
        # The time is not part of the change: it would be another change whenever it is looked at.
        return Change(
            summary=f"restart {self.thing}",
            before=before,
            after={"restarted_by": context.key},
            volatile=version_of(self.thing, found),
        )

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Annotate the pod template, if nobody has restarted it since it was looked at."""
        cluster, at = await target.cluster(), format_instant(context.clock.now())
        notes = {RESTARTED_AT: at, RESTARTED_BY: change.after["restarted_by"]}

        def body(version: str) -> Mapping[str, Any]:
            return {
                "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: context.key}},
                "spec": {"template": {"metadata": {"annotations": notes}}},
            }

        found = await patch_same(cluster, self.thing, Workload, change, body, context, self._seen)
        return Outcome(
            summary=f"{self.thing} is restarted", data={"restarted_at": at, "generation": found.metadata.generation}
        )

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when all pods have been replaced. A later restart by somebody else is as good."""
        found = await (await target.cluster()).get(self.thing, Workload)
        if self._seen(found) == dict(change.before):
            raise PermanentError(f"the restart of {self.thing} was taken back by somebody else", reason="changed")
        complete(self.thing, found)

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the annotation names this step, no if it is that of before, else unknown."""
        seen = self._seen(await (await target.cluster()).get(self.thing, Workload))
        if seen["restarted_by"] == change.after["restarted_by"]:
            return Happened.YES
        return Happened.NO if seen == dict(change.before) else Happened.UNKNOWN
