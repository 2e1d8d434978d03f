"""Names of Kubernetes objects, and where the API server keeps each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A namespace: a DNS label (RFC 1123)."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of an object: a DNS subdomain (RFC 1123)."""

ContainerName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""The name of a container: a DNS label (RFC 1123)."""

Kind = Literal[
    "deployment",
    "statefulset",
    "replicaset",
    "horizontalpodautoscaler",
    "scaledobject",
    "pod",
    "service",
    "event",
    "node",
    "cronjob",
    "job",
]

_BASES: dict[Kind, str] = {
    "deployment": "/apis/apps/v1",
    "statefulset": "/apis/apps/v1",
    "replicaset": "/apis/apps/v1",
    # Version 1 has all that a limit needs and is served by every API server there is.
    "horizontalpodautoscaler": "/apis/autoscaling/v1",
    "scaledobject": "/apis/keda.sh/v1alpha1",
    "pod": "/api/v1",
    "service": "/api/v1",
    "event": "/api/v1",
    "node": "/api/v1",
    "cronjob": "/apis/batch/v1",
    "job": "/apis/batch/v1",
}


def resource_of(kind: Kind) -> str:
    """The plural that the API, RBAC and the permit lists use."""
    return f"{kind}s"


def group_of(kind: Kind) -> str:
    """The API group as RBAC writes it; ``""`` is the core group."""
    base = _BASES[kind].split("/")
    return base[2] if base[1] == "apis" else ""


def path_of(kind: Kind, namespace: str, base: str = "") -> str:
    """Where the objects of ``kind`` are; nodes are in no namespace. ``base`` is another version of the API."""
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{base or _BASES[kind]}{inside}/{resource_of(kind)}"


@dataclass(frozen=True, slots=True)
class Thing:
    """One object, by kind, namespace (``""`` for a node) and name."""

    kind: Kind
    namespace: str
    name: str

    @property
    def resource(self) -> str:
        """The plural that the API, RBAC and the permit lists use."""
        return resource_of(self.kind)

    @property
    def path(self) -> str:
        """Where the API server keeps it. Namespace and name are DNS names: nothing in them needs quoting."""
        return f"{path_of(self.kind, self.namespace)}/{self.name}"

    def __str__(self) -> str:
        """``deployment/production/minting-worker``, ``node/worker-3``."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)
