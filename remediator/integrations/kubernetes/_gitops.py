"""Whether a field of an object is kept in Git, so that Argo CD or Flux would put back what is changed here.

Marks: Argo CD, resource tracking (https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/); Flux, the
labels of its Kustomizations and HelmReleases (https://fluxcd.io/flux/components/kustomize/kustomizations/). Field
owners: Kubernetes, server-side apply (managedFields).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._shape import Metadata

Field = tuple[str, ...]
REPLICAS: Field = ("spec", "replicas")
TEMPLATE: Field = ("spec", "template")

_MARKS = {
    "argocd.argoproj.io/instance": "the Argo CD application",
    "argocd.argoproj.io/tracking-id": "the Argo CD application",
    "kustomize.toolkit.fluxcd.io/name": "the Flux Kustomization",
    "helm.toolkit.fluxcd.io/name": "the Flux HelmRelease",
}
_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
_OFF = {
    "kustomize.toolkit.fluxcd.io/reconcile": {"disabled"},
    "kustomize.toolkit.fluxcd.io/ssa": {"ignore", "ifnotpresent"},
}
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def gitops_owner(metadata: Metadata, field: Field) -> str | None:
    """Who keeps ``field`` in Git, in words; None if nobody does.

    An object that is managed there and does not tell its fields counts as kept whole.
    """
    if any(metadata.annotations.get(name, "").lower() in values for name, values in _OFF.items()):
        return None
    owner = _mark(metadata) or next(
        (_MANAGERS[name] for entry in metadata.managed_fields if (name := str(entry.get("manager"))) in _MANAGERS), None
    )
    if owner is None:
        return None
    declared = list(_declared(metadata))
    if field == TEMPLATE or not declared or any(_holds(tree, field, prefix) for tree, prefix in declared):
        return owner
    return None


def _mark(metadata: Metadata) -> str | None:
    for name, owner in _MARKS.items():
        value = metadata.labels.get(name) or metadata.annotations.get(name)
        if value:
            return f"{owner} {value.partition(':')[0]}"
    return None


def _declared(metadata: Metadata) -> Iterator[tuple[Any, str]]:
    """What Git's side has declared: trees of its managed fields, and what kubectl's way of applying remembers."""
    for entry in metadata.managed_fields:
        if entry.get("manager") in _MANAGERS and entry.get("subresource") != "status":
            yield entry.get("fieldsV1"), "f:"
    if _LAST_APPLIED in metadata.annotations:
        try:
            yield json.loads(metadata.annotations[_LAST_APPLIED]), ""
        except ValueError:
            return


def _holds(tree: Any, field: Field, prefix: str) -> bool:
    for name in field:
        if not isinstance(tree, Mapping) or prefix + name not in tree:
            return False
        tree = tree[prefix + name]
    return True


def refuse_drift(what: object, metadata: Metadata, field: Field, *, allowed: bool) -> str:
    """What to add to a summary about who keeps ``field`` in Git. Raises PermanentError unless ``allowed``."""
    owner = gitops_owner(metadata, field)
    if owner is None:
        return ""
    if not allowed:
        raise PermanentError(
            f"{what} is kept in Git by {owner}, which would put this change back; change it there, "
            "or write allow_drift: true",
            reason="gitops_owned",
        )
    return f" (against {owner})"


def wait_for_drift(looked_at: float, now: float, seconds: float) -> None:
    """Raises TemporaryError until Git's side has had its time to put the change back."""
    left = looked_at + seconds - now
    if left > 0:
        raise TemporaryError(
            f"it is kept in Git and may be put back; looked at again in {left:.0f} s (drift_after)", reason="drift"
        )
