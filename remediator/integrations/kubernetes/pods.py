"""``kubernetes.pods``: the pods of a deployment or stateful set, how often they restarted and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from remediator.integrations.kubernetes._grant import Grant
from remediator.integrations.kubernetes._pods import Pod, pods_of, state_of, workload_grants
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext

_SHOWN = 20


class Pods(Probe[KubernetesTarget]):
    """Reads the pods that belong to one deployment or stateful set."""

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment.")
    statefulset: Name | None = Field(default=None, description="The stateful set.")

    @model_validator(mode="after")
    def _one_object(self) -> Pods:
        if (self.deployment is None) == (self.statefulset is None):
            raise ValueError("write deployment or statefulset, exactly one of them")
        return self

    @property
    def _thing(self) -> Thing:
        if self.deployment is not None:
            return Thing("deployment", self.namespace, self.deployment)
        return Thing("statefulset", self.namespace, self.statefulset or "")

    def needs(self) -> Mapping[str, str]:
        """Namespace and object must be permitted."""
        return {"namespaces": self.namespace, self._thing.resource: self._thing.name}

    def grants(self) -> list[Grant]:
        """Reading the object, listing ReplicaSets and pods."""
        return workload_grants(self._thing)

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The pods as evidence. Raises TemporaryError, PermanentError."""
        found = await pods_of(await target.cluster(), self._thing)
        containers = [status for pod in found for status in pod.status.container_statuses]
        states = [state_of(status) for status in containers]
        return {
            "count": len(found),
            "ready": sum(pod.ready for pod in found),
            "restarts": sum(pod.restarts for pod in found),
            "phases": _counted(pod.status.phase for pod in found),
            "waiting": _counted(state["waiting"] for state in states),
            "last_reasons": _counted(state["last_reason"] for state in states),
            # The pods in trouble first: they are what the probe is for, and there may be more than are shown.
            "pods": [_pod(pod) for pod in sorted(found, key=lambda pod: (pod.ready, -pod.restarts))[:_SHOWN]],
        }


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        if word:
            counts[word] = counts.get(word, 0) + 1
    return counts


def _pod(pod: Pod) -> dict[str, Any]:
    return {
        "name": pod.metadata.name,
        "phase": pod.status.phase,
        "reason": pod.status.reason,
        "ready": pod.ready,
        "restarts": pod.restarts,
        "node": pod.spec.node_name,
        "started": pod.status.start_time,
        "ending": bool(pod.metadata.deletion_timestamp),
        "containers": [state_of(status) for status in pod.status.container_statuses],
    }
