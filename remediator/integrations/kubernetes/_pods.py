"""Pods as probes and actions see them: those of one deployment or stateful set, or one by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._revisions import replica_sets, selector_of
from remediator.integrations.kubernetes._shape import Condition, Metadata, Shape, Workload
from remediator.integrations.kubernetes._thing import Thing

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster


class ContainerStatus(Shape):
    """How one container is; ``state`` and ``last_state`` have one key: waiting, running or terminated."""

    name: str
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    state: dict[str, Any] = Field(default_factory=dict)
    last_state: dict[str, Any] = Field(default_factory=dict)


class PodStatus(Shape):
    """How a pod is."""

    phase: str = ""
    reason: str = ""
    start_time: str = ""
    conditions: list[Condition] = Field(default_factory=list)
    container_statuses: list[ContainerStatus] = Field(default_factory=list)


class PodSpec(Shape):
    """Where a pod runs, and its containers."""

    node_name: str = ""
    containers: list[dict[str, Any]] = Field(default_factory=list)


class Pod(Shape):
    """A pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether it gets traffic."""
        up = any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)
        return up and not self.metadata.deletion_timestamp

    @property
    def restarts(self) -> int:
        """How often its containers were started again."""
        return sum(each.restart_count for each in self.status.container_statuses)

    def container_names(self) -> list[str]:
        """The names of its containers, in order."""
        return [str(each.get("name", "")) for each in self.spec.containers]


def workload_grants(thing: Thing) -> list[Grant]:
    """What ``pods_of`` needs."""
    found = grants_on(thing, "get") + grants_in("pod", thing.namespace, "list")
    return found + (grants_in("replicaset", thing.namespace, "list") if thing.kind == "deployment" else [])


async def pods_of(cluster: Cluster, thing: Thing) -> list[Pod]:
    """The pods that belong to a deployment or stateful set, by name; not those that only carry its labels.

    Raises TemporaryError, PermanentError.
    """
    found = await cluster.get(thing, Workload)
    uids = {found.metadata.uid}
    if thing.kind == "deployment":
        uids = {each.metadata.uid for each in await replica_sets(cluster, thing, found)}
    listed = await cluster.list_all("pod", thing.namespace, Pod, labels=selector_of(thing, found))
    mine = [pod for pod in listed if pod.metadata.controller is not None and pod.metadata.controller.uid in uids]
    return sorted(mine, key=lambda pod: pod.metadata.name)


def state_of(status: ContainerStatus) -> dict[str, Any]:
    """One container as evidence: no command lines and no environment."""
    last = _terminated(status.last_state) or _terminated(status.state)
    waiting = status.state.get("waiting")
    return {
        "name": status.name,
        "ready": status.ready,
        "restarts": status.restart_count,
        "image": status.image,
        "waiting": str(waiting.get("reason", "")) if isinstance(waiting, Mapping) else "",
        "last_reason": str(last.get("reason", "")),
        "last_exit_code": last.get("exitCode"),
        "last_finished": str(last.get("finishedAt", "")),
    }


def _terminated(state: Mapping[str, Any]) -> Mapping[str, Any]:
    found = state.get("terminated")
    return found if isinstance(found, Mapping) else {}
