"""The parts of Kubernetes objects that actions and probes read; everything else of an answer is left alone.

Pod templates stay as they came: a newer API server may put fields into them that no library knows yet, and a rollback
must bring them all back. Field meanings: the API reference of Kubernetes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class Shape(BaseModel):
    """A part of an object. What is missing or null has its Go zero value, as the API leaves zeros out."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value


class Owner(Shape):
    """One of the objects that an object belongs to."""

    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool = False


class Metadata(Shape):
    """What every object says of itself."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    owner_references: list[Owner] = []
    managed_fields: list[dict[str, Any]] = []

    @property
    def controller(self) -> Owner | None:
        """The object that makes a new one when this one goes."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Anything(Shape):
    """An object of which only the metadata matter."""

    metadata: Metadata


class Condition(Shape):
    """One of the conditions in a status."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_update_time: str = ""
    last_transition_time: str = ""


class Selector(Shape):
    """A label selector."""

    match_labels: dict[str, str] = {}
    match_expressions: list[dict[str, Any]] = []


class Strategy(Shape):
    """How pods are replaced."""

    type: str = ""


class WorkloadSpec(Shape):
    """The wish of a deployment, stateful set or replica set."""

    replicas: int = 1
    selector: Selector = Selector()
    template: dict[str, Any]
    paused: bool = False
    update_strategy: Strategy = Strategy()


class WorkloadStatus(Shape):
    """How far it has come."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int | None = None
    unavailable_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    conditions: list[Condition] = []

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((each for each in self.conditions if each.type == type_), None)


class Workload(Shape):
    """A deployment, stateful set or replica set."""

    metadata: Metadata
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()


class ReplicasSpec(Shape):
    """Just a number of replicas."""

    replicas: int = 0


class Replicas(Shape):
    """The scale subresource."""

    metadata: Metadata
    spec: ReplicasSpec = ReplicasSpec()


class PageMetadata(Shape):
    """Where the next page of a list begins; ``""`` after the last one."""

    more: str = Field(default="", alias="continue")


class Page(Shape):
    """One page of a list."""

    metadata: PageMetadata = PageMetadata()
    items: list[dict[str, Any]] = []


class Reviewed(Shape):
    """The answer to a question about permissions."""

    status: dict[str, Any]


class TargetReference(Shape):
    """What an autoscaler scales."""

    kind: str
    name: str
    api_version: str = ""


class AutoscalerSpec(Shape):
    """The limits of a HorizontalPodAutoscaler (autoscaling/v1); a minimum that is not written is 1."""

    scale_target_ref: TargetReference
    min_replicas: int = 1
    max_replicas: int


class Autoscaler(Shape):
    """A HorizontalPodAutoscaler."""

    metadata: Metadata
    spec: AutoscalerSpec


class ScaledObjectSpec(Shape):
    """The limits of a KEDA ScaledObject (keda.sh/v1alpha1), with KEDA's own defaults."""

    min_replica_count: int = 0
    max_replica_count: int = 100


class ScaledObject(Shape):
    """A KEDA ScaledObject."""

    metadata: Metadata
    spec: ScaledObjectSpec = ScaledObjectSpec()
