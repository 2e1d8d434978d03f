"""Names of Kubernetes objects that can be scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A namespace: a DNS label (RFC 1123)."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of an object: a DNS subdomain (RFC 1123)."""

Kind = Literal["deployment", "statefulset"]


@dataclass(frozen=True, slots=True)
class Thing:
    """A deployment or a stateful set."""

    kind: Kind
    namespace: str
    name: str

    @property
    def resource(self) -> str:
        """The plural that the API, RBAC and the permit lists use."""
        return f"{self.kind}s"

    def __str__(self) -> str:
        """``deployment/production/minting-worker``."""
        return f"{self.kind}/{self.namespace}/{self.name}"
