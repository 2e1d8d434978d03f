"""``kubernetes.delete_pod``: let a pod be replaced by a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._pods import Pod
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget

_REPLACING = {"ReplicaSet", "StatefulSet", "DaemonSet"}


class DeletePod(Action[KubernetesTarget]):
    """Evicts one pod, exactly the one that was looked at, if its controller will make a new one.

    An eviction respects PodDisruptionBudgets: a budget that allows none holds the step back. With
    `respect_budget: false` the pod is deleted, which is what helps where unhealthy pods use the budget up.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"respect_budget"})

    namespace: Namespace = Field(description="The pod's namespace.")
    pod: Name = Field(description="The pod's name.")
    respect_budget: bool = Field(default=True, description="Evict; if false, delete whatever the budgets say.")

    @property
    def _thing(self) -> Thing:
        return Thing("pod", self.namespace, self.pod)

    def needs(self) -> Mapping[str, str]:
        """Namespace and pod must be permitted."""
        return {"namespaces": self.namespace, "pods": self.pod}

    def subject(self) -> str:
        """``pod/<namespace>/<name>``."""
        return str(self._thing)

    def grants(self) -> list[Grant]:
        """Reading the pod, and evicting or deleting it."""
        if self.respect_budget:
            return grants_on(self._thing, "get") + grants_on(self._thing, "create", sub="eviction")
        return grants_on(self._thing, "get", "delete")

    async def _find(self, target: KubernetesTarget) -> Pod | None:
        """The pod, unless it is gone or going."""
        try:
            found = await (await target.cluster()).get(self._thing, Pod)
        except PermanentError as error:
            if error.reason == "status_404":
                return None
            raise
        return None if found.metadata.deletion_timestamp else found

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """The pod that would go. Raises TemporaryError; PermanentError where no new one would come."""
        found = await self._find(target)
        if found is None:
            return Change(summary=f"{self._thing} is gone", before={"pod": None}, after={"pod": None})
        owner = found.metadata.controller
        if owner is None or owner.kind not in _REPLACING:
            raise PermanentError(
                f"{self._thing} belongs to {owner.kind if owner else 'nobody'}: no new pod would come in its place",
                reason="unowned",
            )
        return Change(
            summary=f"delete {self._thing}, which {owner.kind} {owner.name} replaces",
            before={"pod": found.metadata.uid, "ready": found.ready},
            after={"pod": None},
        )

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Evict or delete the pod, if it still is the one that was looked at."""
        cluster, uid = await target.cluster(), str(change.before["pod"])
        options = {"preconditions": {"uid": uid}}
        try:
            if self.respect_budget:
                eviction = {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": self.pod, "namespace": self.namespace},
                    "deleteOptions": options,
                }
                await cluster.create(self._thing, eviction, subresource="eviction", check=context.check_deadline)
            else:
                body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
                await cluster.delete(self._thing, body, check=context.check_deadline)
        except PermanentError as error:
            # The HTTP client may have sent a DELETE twice; and a pod that somebody else deleted is gone as well.
            if error.reason != "status_404":
                raise
        return Outcome(summary=f"{self._thing} is deleted", data={"uid": uid})

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when that very pod is gone."""
        try:
            found = await (await target.cluster()).get(self._thing, Pod)
        except PermanentError as error:
            if error.reason == "status_404":
                return
            raise
        if found.metadata.uid == change.before["pod"]:
            raise TemporaryError(f"{self._thing} is still ending", reason="not_gone")

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if that very pod is gone or going, else no."""
        found = await self._find(target)
        return Happened.NO if found is not None and found.metadata.uid == change.before["pod"] else Happened.YES
