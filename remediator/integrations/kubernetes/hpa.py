"""``kubernetes.hpa``: the limits and the state of a HorizontalPodAutoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.kubernetes._grant import Grant, grants_in
from remediator.integrations.kubernetes._shape import AutoscalerSpec, Condition, Metadata, Shape
from remediator.integrations.kubernetes._thing import Name, Namespace
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext

_V2 = "/apis/autoscaling/v2"


class _Status(Shape):
    current_replicas: int = 0
    desired_replicas: int = 0
    last_scale_time: str = ""
    conditions: list[Condition] = Field(default_factory=list)


class _Autoscaler(Shape):
    metadata: Metadata
    spec: AutoscalerSpec
    status: _Status = _Status()


class Hpa(Probe[KubernetesTarget]):
    """Reads the HorizontalPodAutoscaler of one deployment; without one, `present` is false and all numbers are 0."""

    namespace: Namespace = Field(description="The deployment's namespace.")
    deployment: Name = Field(description="The deployment that is scaled.")

    def needs(self) -> Mapping[str, str]:
        """Namespace and deployment must be permitted."""
        return {"namespaces": self.namespace, "deployments": self.deployment}

    def grants(self) -> list[Grant]:
        """Listing autoscalers."""
        return grants_in("horizontalpodautoscaler", self.namespace, "list")

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The autoscaler as evidence. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        listed = await cluster.list_all("horizontalpodautoscaler", self.namespace, _Autoscaler, base=_V2)
        wanted = ("Deployment", self.deployment)
        found = next(
            (e for e in listed if (e.spec.scale_target_ref.kind, e.spec.scale_target_ref.name) == wanted), None
        )
        spec, status = (found.spec, found.status) if found is not None else (None, _Status())
        states = {each.type: each for each in status.conditions}
        active, limited = states.get("ScalingActive"), states.get("ScalingLimited")
        return {
            "present": found is not None,
            "name": found.metadata.name if found is not None else "",
            "min": spec.min_replicas if spec is not None else 0,
            "max": spec.max_replicas if spec is not None else 0,
            "current": status.current_replicas,
            "desired": status.desired_replicas,
            "at_max": spec is not None and status.desired_replicas >= spec.max_replicas,
            "active": active is not None and active.status == "True",
            "limited": limited.reason if limited is not None and limited.status == "True" else "",
            "last_scaled": status.last_scale_time,
        }
