"""The autoscaler that owns the replicas of an object, and its limits: HorizontalPodAutoscaler or KEDA ScaledObject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.action import ActionContext, Change
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._shape import Autoscaler, Metadata, ScaledObject
from remediator.integrations.kubernetes._thing import Thing

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

_KEDA_LABEL = "scaledobject.keda.sh/name"


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which numbers an autoscaler moves."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Lever:
    """The object whose limits decide: KEDA makes a HorizontalPodAutoscaler of its own and would put its limits back."""

    thing: Thing
    limits: Limits
    metadata: Metadata

    @property
    def field(self) -> tuple[str, str]:
        """Where the lower limit is, as managedFields would name it."""
        return ("spec", "minReplicas" if self.thing.kind == "horizontalpodautoscaler" else "minReplicaCount")

    def __str__(self) -> str:
        """``the HorizontalPodAutoscaler minting-worker``."""
        return named(self.thing)


def named(thing: Thing) -> str:
    """``the HorizontalPodAutoscaler minting-worker``."""
    kind = "HorizontalPodAutoscaler" if thing.kind == "horizontalpodautoscaler" else "KEDA ScaledObject"
    return f"the {kind} {thing.name}"


async def find_autoscaler(cluster: Cluster, thing: Thing) -> Thing | None:
    """What scales ``thing``; only autoscalers are listed for that. Raises PermanentError where there are two."""
    found = []
    for each in await cluster.list_all("horizontalpodautoscaler", thing.namespace, Autoscaler):
        reference = each.spec.scale_target_ref
        if reference.kind.lower() == thing.kind and reference.name == thing.name:
            found.append(each)
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(sorted(each.metadata.name for each in found))
        raise PermanentError(f"{thing} has more than one autoscaler: {names}", reason="hpa_owned")
    name = _keda(found[0].metadata)
    if name is not None:
        return Thing("scaledobject", thing.namespace, name)
    return Thing("horizontalpodautoscaler", thing.namespace, found[0].metadata.name)


def _keda(metadata: Metadata) -> str | None:
    owner = metadata.controller
    if owner is not None and owner.kind == "ScaledObject":
        return owner.name
    return metadata.labels.get(_KEDA_LABEL)


async def read_lever(cluster: Cluster, thing: Thing) -> Lever:
    """The autoscaler itself, read now. Raises TemporaryError, PermanentError."""
    if thing.kind == "scaledobject":
        return _lever(thing, await cluster.get(thing, ScaledObject))
    return _lever(thing, await cluster.get(thing, Autoscaler))


def _lever(thing: Thing, found: Autoscaler | ScaledObject) -> Lever:
    return Lever(thing, _limits(found), found.metadata)


def _limits(found: Autoscaler | ScaledObject) -> Limits:
    if isinstance(found, Autoscaler):
        return Limits(found.spec.min_replicas, found.spec.max_replicas)
    return Limits(found.spec.min_replica_count, found.spec.max_replica_count)


def shown(thing: Thing, limits: Limits) -> dict[str, Any]:
    """The limits as a change shows them."""
    return {"autoscaler": thing.name, "kind": thing.kind, "least": limits.least, "most": limits.most}


def shown_version(lever: Lever) -> dict[str, str]:
    """What a change keeps to be made only once."""
    return version_of(lever.thing, lever)


async def write_limits(cluster: Cluster, thing: Thing, change: Change, context: ActionContext) -> None:
    """Set the limits of ``change``, if they are as it shows. Raises TemporaryError, PermanentError, Unanswered."""
    least, most = int(change.after["least"]), int(change.after["most"])
    keda = thing.kind == "scaledobject"
    names = ("minReplicaCount", "maxReplicaCount") if keda else ("minReplicas", "maxReplicas")

    def body(version: str) -> dict[str, Any]:
        return {
            "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: context.key}},
            "spec": dict(zip(names, (least, most), strict=True)),
        }

    def before(found: Autoscaler | ScaledObject) -> dict[str, Any]:
        return shown(thing, _limits(found))

    if keda:
        await patch_same(cluster, thing, ScaledObject, change, body, context, before)
    else:
        await patch_same(cluster, thing, Autoscaler, change, body, context, before)
