"""``kubernetes.owner``: who decides about the replicas and the pods of a deployment or stateful set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from remediator.integrations.kubernetes._autoscaler import find_autoscaler, read_lever
from remediator.integrations.kubernetes._gitops import REPLICAS, TEMPLATE, gitops_owner
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext


class Owner(Probe[KubernetesTarget]):
    """Finds the autoscaler of an object, and whether Argo CD or Flux keeps its replicas and its pods in Git."""

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment.")
    statefulset: Name | None = Field(default=None, description="The stateful set.")

    @model_validator(mode="after")
    def _one_object(self) -> Owner:
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
        """Reading the object and listing autoscalers."""
        return grants_on(self._thing, "get") + grants_in("horizontalpodautoscaler", self.namespace, "list")

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """Who decides, as evidence. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        found = await cluster.get(self._thing, Workload)
        autoscaler = await find_autoscaler(cluster, self._thing)
        lever = await read_lever(cluster, autoscaler) if autoscaler is not None else None
        controller = found.metadata.controller
        return {
            "autoscaler": lever.thing.kind if lever is not None else "",
            "autoscaler_name": lever.thing.name if lever is not None else "",
            "autoscaler_min": lever.limits.least if lever is not None else 0,
            "autoscaler_max": lever.limits.most if lever is not None else 0,
            "replicas_in_git": gitops_owner(found.metadata, REPLICAS) or "",
            "pods_in_git": gitops_owner(found.metadata, TEMPLATE) or "",
            "controller": f"{controller.kind}/{controller.name}" if controller is not None else "",
        }
