"""The revisions of a deployment: its ReplicaSets, numbered by the controller, and when the last rollout moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.clock import parse_instant
from remediator.errors import InputError, PermanentError
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Thing
from remediator.integrations.kubernetes._workload import containers_of, digest_of

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

REVISION = "deployment.kubernetes.io/revision"
_HISTORY = "deployment.kubernetes.io/revision-history"
CAUSE = "kubernetes.io/change-cause"


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision. ``again``: an older revision has become the current one again, by a rollback for example."""

    number: int
    name: str
    template: Mapping[str, Any]
    replicas: int
    created: str
    cause: str
    again: bool

    @property
    def digest(self) -> str:
        """What tells its pod template apart."""
        return digest_of(self.template)

    @property
    def images(self) -> list[str]:
        """The images of its containers, in order."""
        return images_of(self.template)


def images_of(template: Mapping[str, Any]) -> list[str]:
    """The images of a pod template, in order."""
    return [str(each.get("image", "")) for each in containers_of(template)]


def revision_of(found: Workload) -> int:
    """The number of the current revision; 0 if the controller has not said it."""
    text = found.metadata.annotations.get(REVISION, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def moved_at(found: Workload) -> float | None:
    """When the last rollout moved, Unix seconds: while it runs its last progress, afterwards when it was complete.

    From the condition ``Progressing``, which scaling leaves alone; None where there is none (no progress deadline).
    """
    condition = found.status.condition("Progressing")
    if condition is None or not condition.last_update_time or condition.reason == "DeploymentPaused":
        return None
    return instant(condition.last_update_time)


def instant(text: str) -> float | None:
    """An RFC 3339 time as Unix seconds; None if it is none."""
    try:
        return parse_instant(text)
    except InputError:
        return None


def selector_of(thing: Thing, found: Workload) -> str:
    """The selector of a workload as the API wants it in a query. Raises PermanentError for what is not understood."""
    parts = [f"{name}={value}" for name, value in sorted(found.spec.selector.match_labels.items())]
    for each in found.spec.selector.match_expressions:
        operator, key, values = each.get("operator"), each.get("key"), ",".join(each.get("values") or [])
        if operator not in _OPERATORS:
            raise PermanentError(f"{thing} has a selector that is not understood", reason="selector")
        parts.append(_OPERATORS[operator].format(key=key, values=values))
    if not parts:
        raise PermanentError(f"{thing} has no selector", reason="selector")
    return ",".join(parts)


_OPERATORS = {
    "In": "{key} in ({values})",
    "NotIn": "{key} notin ({values})",
    "Exists": "{key}",
    "DoesNotExist": "!{key}",
}


async def replica_sets(cluster: Cluster, thing: Thing, found: Workload) -> list[Workload]:
    """The ReplicaSets that the deployment controls. Raises TemporaryError, PermanentError."""
    listed = await cluster.list_all("replicaset", thing.namespace, Workload, labels=selector_of(thing, found))
    return [
        each
        for each in listed
        if each.metadata.controller is not None and each.metadata.controller.uid == found.metadata.uid
    ]


async def revisions(cluster: Cluster, thing: Thing, found: Workload) -> list[Revision]:
    """What can be rolled back to, oldest first. Raises TemporaryError, PermanentError."""
    known = [
        Revision(
            number=revision_of(each),
            name=each.metadata.name,
            template=each.spec.template,
            replicas=each.status.replicas,
            created=each.metadata.creation_timestamp,
            cause=each.metadata.annotations.get(CAUSE, ""),
            again=_HISTORY in each.metadata.annotations,
        )
        for each in await replica_sets(cluster, thing, found)
        if revision_of(each)
    ]
    return sorted(known, key=lambda revision: revision.number)
