"""``kubernetes.events``: what the cluster has said lately about a deployment, stateful set, pod or node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from remediator.clock import Duration
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._revisions import instant, replica_sets
from remediator.integrations.kubernetes._shape import Metadata, Shape, Workload
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

_SHOWN = 20
_KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet", "pod": "Pod"}


class _About(Shape):
    kind: str = ""
    name: str = ""


class _Event(Shape):
    metadata: Metadata
    involved_object: _About = _About()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 1
    last_timestamp: str = ""
    event_time: str = ""

    @property
    def at(self) -> float:
        """When it was seen last, Unix seconds."""
        for text in (self.last_timestamp, self.event_time, self.metadata.creation_timestamp):
            if text and (at := instant(text)) is not None:
                return at
        return 0.0


class Events(Probe[KubernetesTarget]):
    """Reads the events about one object; for a deployment or stateful set also those about its ReplicaSets and pods."""

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment.")
    statefulset: Name | None = Field(default=None, description="The stateful set.")
    pod: Name | None = Field(default=None, description="One pod.")
    since: Duration = Field(default=3600.0, gt=0, description="Only events seen within this time.")

    @model_validator(mode="after")
    def _one_object(self) -> Events:
        if sum(each is not None for each in (self.deployment, self.statefulset, self.pod)) != 1:
            raise ValueError("write deployment, statefulset or pod, exactly one of them")
        return self

    @property
    def _thing(self) -> Thing:
        if self.deployment is not None:
            return Thing("deployment", self.namespace, self.deployment)
        if self.statefulset is not None:
            return Thing("statefulset", self.namespace, self.statefulset)
        return Thing("pod", self.namespace, self.pod or "")

    def needs(self) -> Mapping[str, str]:
        """Namespace and object must be permitted."""
        return {"namespaces": self.namespace, self._thing.resource: self._thing.name}

    def grants(self) -> list[Grant]:
        """Listing events; for a deployment also reading it and listing ReplicaSets."""
        found = grants_in("event", self.namespace, "list")
        if self.deployment is not None:
            found += grants_on(self._thing, "get") + grants_in("replicaset", self.namespace, "list")
        return found

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The events as evidence, newest first. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        about = await self._about(cluster)
        after = context.clock.now() - self.since
        fields = f"involvedObject.name={self.pod}" if self.pod is not None else ""
        listed = await cluster.list_all("event", self.namespace, _Event, fields=fields)
        found = sorted((e for e in listed if e.at >= after and about(e.involved_object)), key=lambda e: -e.at)
        reasons: dict[str, int] = {}
        for event in found:
            reasons[event.reason] = reasons.get(event.reason, 0) + event.count
        return {
            "count": sum(event.count for event in found),
            "warnings": sum(event.count for event in found if event.type == "Warning"),
            "reasons": reasons,
            "events": [
                {
                    "type": event.type,
                    "reason": event.reason,
                    "message": event.message[:300],
                    "count": event.count,
                    "object": f"{event.involved_object.kind}/{event.involved_object.name}",
                    "age": max(0.0, context.clock.now() - event.at),
                }
                for event in found[:_SHOWN]
            ],
        }

    async def _about(self, cluster: Cluster) -> Any:
        thing, kind = self._thing, _KINDS[self._thing.kind]
        sets: set[str] = set()
        if thing.kind == "deployment":
            found = await cluster.get(thing, Workload)
            sets = {each.metadata.name for each in await replica_sets(cluster, thing, found)}

        def about(it: _About) -> bool:
            parent = it.name.rpartition("-")[0]
            return (
                (it.kind == kind and it.name == thing.name)
                or (it.kind == "ReplicaSet" and it.name in sets)
                or (it.kind == "Pod" and (parent in sets or (thing.kind == "statefulset" and parent == thing.name)))
            )

        return about
