"""Tests of the probe kubernetes.pods."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import canonical_json
from remediator.integrations.kubernetes.pods import Pods
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.support import looking

LOOK = Pods(namespace="production", deployment="minting-worker")


async def test_healthy_pods(api: ApiServer, target: KubernetesTarget) -> None:
    """All there, all ready, none restarted; also for a stateful set."""
    for look in (LOOK, Pods(namespace="production", statefulset="queue")):
        seen = await look.read(target, looking())
        assert (seen["count"], seen["ready"], seen["restarts"]) == (3, 3, 0)
        assert (seen["phases"], seen["waiting"], seen["last_reasons"]) == ({"Running": 3}, {}, {})
        assert [each["node"] for each in seen["pods"]] == ["node-1"] * 3


async def test_pods_in_trouble_come_first_and_say_why(api: ApiServer, target: KubernetesTarget) -> None:
    """Restarts, the reason of the last end and of waiting are told, and no command line and no environment."""
    name = sorted(key[2] for key in api.objects if key[0] == "pods" and key[2].startswith("minting"))[-1]
    found = api.objects["pods", "production", name]
    found["spec"]["containers"][0] |= {"command": ["canary"], "env": [{"name": "TOKEN", "value": "canary"}]}
    found["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    found["status"]["containerStatuses"][0] |= {
        "ready": False,
        "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-20T21:00:00Z"}},
    }
    seen = await LOOK.read(target, looking())
    assert (seen["ready"], seen["restarts"]) == (2, 7)
    assert (seen["waiting"], seen["last_reasons"]) == ({"CrashLoopBackOff": 1}, {"OOMKilled": 1})
    first: dict[str, Any] = seen["pods"][0]
    assert first["name"] == name
    assert first["containers"] == [
        {
            "name": "main",
            "ready": False,
            "restarts": 7,
            "image": "minting:1.2",
            "waiting": "CrashLoopBackOff",
            "last_reason": "OOMKilled",
            "last_exit_code": 137,
            "last_finished": "2026-11-20T21:00:00Z",
        }
    ]
    assert "canary" not in canonical_json(seen)


async def test_pods_of_others_are_not_counted(api: ApiServer, target: KubernetesTarget) -> None:
    """A pod that only carries the labels, and one of another deployment with a similar name, do not belong here."""
    api.add("deployments", "minting-worker-canary", 2)
    api.put("pods", "debug", spec={}, status={}, metadata={"labels": {"app": "minting-worker"}})
    for key, found in api.objects.items():
        if "canary" in key[2]:
            found["metadata"]["labels"] = {"app": "minting-worker"}
    assert (await LOOK.read(target, looking()))["count"] == 3


async def test_only_the_first_are_shown(api: ApiServer, target: KubernetesTarget) -> None:
    """Evidence stays small: counts of all, details of 20."""
    api.add("deployments", "minting-worker", 25)
    seen = await LOOK.read(target, looking())
    assert (seen["count"], len(seen["pods"])) == (25, 20)


def test_parameters() -> None:
    """Exactly one object, and that one must be permitted."""
    for wrong in ({}, {"deployment": "a", "statefulset": "b"}):
        with pytest.raises(ValidationError, match="exactly one"):
            Pods.model_validate({"namespace": "production", **wrong})
    assert Pods(namespace="x", statefulset="q").needs() == {"namespaces": "x", "statefulsets": "q"}
