"""``kubernetes.rollout_history``: the revisions of a deployment that can be rolled back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._revisions import moved_at, revision_of, revisions
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.probe import Probe, ProbeContext


class RolloutHistory(Probe[KubernetesTarget]):
    """Reads the revisions of one deployment from its ReplicaSets."""

    namespace: Namespace = Field(description="The deployment's namespace.")
    deployment: Name = Field(description="The deployment's name.")

    def needs(self) -> Mapping[str, str]:
        """Namespace and deployment must be permitted."""
        return {"namespaces": self.namespace, "deployments": self.deployment}

    def grants(self) -> list[Grant]:
        """Reading the deployment and listing ReplicaSets."""
        thing = Thing("deployment", self.namespace, self.deployment)
        return grants_on(thing, "get") + grants_in("replicaset", self.namespace, "list")

    async def read(self, target: KubernetesTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The revisions as evidence, newest first. Raises TemporaryError, PermanentError."""
        cluster, thing = await target.cluster(), Thing("deployment", self.namespace, self.deployment)
        found = await cluster.get(thing, Workload)
        known = await revisions(cluster, thing, found)
        current, moved = revision_of(found), moved_at(found)
        before = [each for each in known if each.number < current]
        latest = next((each for each in known if each.number == current), None)
        return {
            "current": current,
            "previous": before[-1].number if before else 0,
            "rolled_back": latest is not None and latest.again,
            "rollout_age": None if moved is None else max(0.0, context.clock.now() - moved),
            "revisions": [
                {
                    "revision": each.number,
                    "images": each.images,
                    "created": each.created,
                    "change_cause": each.cause,
                    "replicas": each.replicas,
                }
                for each in reversed(known)
            ],
        }
