"""Tests of the probe kubernetes.owner, and of how GitOps tools are recognised."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediator.integrations.kubernetes._gitops import REPLICAS, TEMPLATE, gitops_owner
from remediator.integrations.kubernetes._shape import Metadata
from remediator.integrations.kubernetes.owner import Owner
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.support import looking

LOOK = Owner(namespace="production", deployment="minting-worker")


async def test_nobody_else(target: KubernetesTarget) -> None:
    """Without an autoscaler and without Git everything is empty."""
    assert set((await LOOK.read(target, looking())).values()) == {"", 0}


async def test_an_autoscaler_and_its_owner(api: ApiServer, target: KubernetesTarget) -> None:
    """The lever is the HorizontalPodAutoscaler, or the ScaledObject that KEDA made it from."""
    api.autoscale("Deployment", "minting-worker", limits=(2, 8))
    seen = await LOOK.read(target, looking())
    assert (seen["autoscaler"], seen["autoscaler_name"]) == ("horizontalpodautoscaler", "minting-worker-hpa")
    assert (seen["autoscaler_min"], seen["autoscaler_max"]) == (2, 8)
    api.scaled_object("StatefulSet", "queue", minReplicaCount=1, maxReplicaCount=5)
    seen = await Owner(namespace="production", statefulset="queue").read(target, looking())
    assert (seen["autoscaler"], seen["autoscaler_name"], seen["autoscaler_max"]) == ("scaledobject", "queue", 5)


def _managed(manager: str, *fields: str) -> dict[str, Any]:
    spec: dict[str, Any] = {f"f:{field}": {} for field in fields}
    return {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": spec}}


ARGO_LABEL = {"argocd.argoproj.io/instance": "minting"}
FLUX_LABEL = {"kustomize.toolkit.fluxcd.io/name": "apps"}
WITHOUT = json.dumps({"spec": {"template": {}}})
WITH = json.dumps({"spec": {"replicas": 3, "template": {}}})
LAST = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.mark.parametrize(
    ("metadata", "replicas", "template"),
    [
        ({}, None, None),
        ({"labels": {"app.kubernetes.io/instance": "minting"}}, None, None),
        ({"labels": ARGO_LABEL}, "the Argo CD application minting", "the Argo CD application minting"),
        ({"labels": ARGO_LABEL, "managedFields": [_managed("argocd-controller", "replicas", "template")]},
         "the Argo CD application minting", "the Argo CD application minting"),
        ({"labels": ARGO_LABEL, "managedFields": [_managed("argocd-controller", "template")]},
         None, "the Argo CD application minting"),
        ({"labels": ARGO_LABEL, "annotations": {LAST: WITHOUT}}, None, "the Argo CD application minting"),
        ({"labels": ARGO_LABEL, "annotations": {LAST: WITH}},
         "the Argo CD application minting", "the Argo CD application minting"),
        ({"labels": ARGO_LABEL, "annotations": {LAST: "{"}},
         "the Argo CD application minting", "the Argo CD application minting"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "apps:apps/Deployment:production/x"}},
         "the Argo CD application apps", "the Argo CD application apps"),
        ({"managedFields": [_managed("argocd-controller", "replicas")]}, "Argo CD", "Argo CD"),
        ({"managedFields": [_managed("kubectl", "replicas")]}, None, None),
        ({"labels": FLUX_LABEL, "managedFields": [_managed("kustomize-controller", "template")]},
         None, "the Flux Kustomization apps"),
        ({"labels": FLUX_LABEL, "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}, None, None),
        ({"labels": FLUX_LABEL, "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "Ignore"}}, None, None),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "minting"}},
         "the Flux HelmRelease minting", "the Flux HelmRelease minting"),
    ],
)  # fmt: skip
def test_who_keeps_what_in_git(metadata: dict[str, Any], replicas: str | None, template: str | None) -> None:
    """Labels, tracking ids, field managers and what kubectl applied tell who would put a change back; an object that
    is managed there and says nothing of its fields counts as kept whole, and a label of Helm alone says nothing."""
    found = Metadata.model_validate(metadata)
    assert gitops_owner(found, REPLICAS) == replicas
    assert gitops_owner(found, TEMPLATE) == template


async def test_git_and_a_controller_as_evidence(api: ApiServer, target: KubernetesTarget) -> None:
    """Who keeps the pods in Git, and what made the object."""
    found = api.get("deployments", "minting-worker")["metadata"]
    found["labels"] = ARGO_LABEL
    found["managedFields"] = [_managed("argocd-controller", "template")]
    found["ownerReferences"] = [{"kind": "Rollout", "name": "minting", "uid": "u", "controller": True}]
    seen = await LOOK.read(target, looking())
    assert (seen["replicas_in_git"], seen["pods_in_git"]) == ("", "the Argo CD application minting")
    assert seen["controller"] == "Rollout/minting"
