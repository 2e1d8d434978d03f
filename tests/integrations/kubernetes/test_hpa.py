"""Tests of the probe kubernetes.hpa."""

from __future__ import annotations

from remediator.integrations.kubernetes.hpa import Hpa
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.support import looking

LOOK = Hpa(namespace="production", deployment="minting-worker")


async def test_limits_and_state(api: ApiServer, target: KubernetesTarget) -> None:
    """Limits, numbers, whether it is at its end and why it is held are told."""
    name = api.autoscale("Deployment", "minting-worker", limits=(2, 4))
    found = api.objects["horizontalpodautoscalers", "production", name]
    await LOOK.read(target, looking())
    found["status"] = {
        "currentReplicas": 4,
        "desiredReplicas": 4,
        "lastScaleTime": "2026-11-20T21:00:00Z",
        "conditions": [
            {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"},
            {"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas"},
        ],
    }
    assert await LOOK.read(target, looking()) == {
        "present": True,
        "name": "minting-worker-hpa",
        "min": 2,
        "max": 4,
        "current": 4,
        "desired": 4,
        "at_max": True,
        "active": True,
        "limited": "TooManyReplicas",
        "last_scaled": "2026-11-20T21:00:00Z",
    }


async def test_without_one(api: ApiServer, target: KubernetesTarget) -> None:
    """No autoscaler, or one for something else of that name, is not present, which is evidence and no error."""
    api.autoscale("StatefulSet", "minting-worker")
    seen = await LOOK.read(target, looking())
    assert (seen["present"], seen["max"], seen["at_max"]) == (False, 0, False)
    assert LOOK.needs() == {"namespaces": "production", "deployments": "minting-worker"}
