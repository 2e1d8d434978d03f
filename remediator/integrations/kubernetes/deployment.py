"""``kubernetes.deployment``: how many replicas a deployment wants and has, and what it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext


class Deployment(Probe[KubernetesTarget]):
    """Reads one deployment. Needs the verb ``get`` on ``deployments``."""

    namespace: Namespace = Field(description="The deployment's namespace.")
    name: Name = Field(description="The deployment's name.")

    def needs(self) -> Mapping[str, str]:
        """Namespace and deployment must be permitted."""
        return {"namespaces": self.namespace, "deployments": self.name}

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The deployment as evidence. Raises TemporaryError, PermanentError."""
        cluster = await target.cluster()
        found: Any = await cluster.read(Thing("deployment", self.namespace, self.name))
        metadata, spec, status = found.metadata, found.spec, found.status
        revision = (metadata.annotations or {}).get("deployment.kubernetes.io/revision", "")
        return {
            "desired": spec.replicas or 0,
            "ready": status.ready_replicas or 0,
            "updated": status.updated_replicas or 0,
            "available": status.available_replicas or 0,
            "unavailable": status.unavailable_replicas or 0,
            "generation": metadata.generation or 0,
            "observed_generation": status.observed_generation or 0,
            "paused": bool(spec.paused),
            "images": [container.image or "" for container in spec.template.spec.containers],
            "revision": int(revision) if revision.isascii() and revision.isdigit() else 0,
            "resource_version": metadata.resource_version or "",
        }
