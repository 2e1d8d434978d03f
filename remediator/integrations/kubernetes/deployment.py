"""``kubernetes.deployment``: how many replicas a deployment wants and has, what it runs, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.kubernetes._env import Variable, value_of
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._revisions import images_of, moved_at, revision_of
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import ContainerName, Name, Namespace, Thing
from remediator.integrations.kubernetes._workload import chosen
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext


class Deployment(Probe[KubernetesTarget]):
    """Reads one deployment. Needs the verb ``get`` on ``deployments``."""

    namespace: Namespace = Field(description="The deployment's namespace.")
    name: Name = Field(description="The deployment's name.")
    env: list[Variable] = Field(
        default_factory=list, max_length=20, description="Environment variables whose values are evidence too."
    )
    container: ContainerName | None = Field(
        default=None, description="The container that `env` is read from; needed where the pods have more than one."
    )

    def needs(self) -> Mapping[str, str]:
        """Namespace and deployment must be permitted."""
        return {"namespaces": self.namespace, "deployments": self.name}

    def grants(self) -> list[Grant]:
        """Reading the deployment."""
        return grants_on(Thing("deployment", self.namespace, self.name), "get")

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The deployment as evidence. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        thing = Thing("deployment", self.namespace, self.name)
        found = await cluster.get(thing, Workload)
        metadata, spec, status = found.metadata, found.spec, found.status
        moved = moved_at(found)
        condition = status.condition("Progressing")
        env: dict[str, str | None] = {}
        if self.env:
            container = chosen(spec.template, self.container, thing)
            env = {name: value_of(container, name, thing) for name in self.env}
        return {
            "desired": spec.replicas,
            "ready": status.ready_replicas,
            "updated": status.updated_replicas,
            "available": status.available_replicas or 0,
            "unavailable": status.unavailable_replicas,
            "generation": metadata.generation,
            "observed_generation": status.observed_generation,
            "paused": spec.paused,
            "images": images_of(spec.template),
            "env": env,
            "revision": revision_of(found),
            "rollout": condition.reason if condition is not None else "",
            "rollout_age": None if moved is None else max(0.0, context.clock.now() - moved),
            "resource_version": metadata.resource_version,
        }
