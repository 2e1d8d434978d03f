"""Tests of the probe kubernetes.events."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import TemporaryError
from remediator.integrations.kubernetes.events import Events
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, Fault
from tests.integrations.kubernetes.standin.controllers import instant
from tests.integrations.support import HandClock, looking


def _event(api: ApiServer, kind: str, name: str, reason: str, at: float, **more: Any) -> None:
    content = {"type": "Warning", "reason": reason, "message": f"{reason} of {name}", "lastTimestamp": instant(at)}
    about = {"kind": kind, "name": name, "namespace": "production"}
    api.put("events", f"{name}.{reason.lower()}", **{**content, "involvedObject": about, **more})


async def test_events_of_a_deployment_and_what_belongs_to_it(
    api: ApiServer, target: KubernetesTarget, clock: HandClock
) -> None:
    """Its own events, those of its ReplicaSets and pods, newest first; not those of others, and not old ones."""
    pod = next(key[2] for key in api.objects if key[0] == "pods" and key[2].startswith("minting-worker"))
    replica_set = next(key[2] for key in api.objects if key[0] == "replicasets")
    _event(api, "Deployment", "minting-worker", "ScalingReplicaSet", clock.at - 60, type="Normal")
    _event(api, "ReplicaSet", replica_set, "FailedCreate", clock.at - 40)
    _event(api, "Pod", pod, "BackOff", clock.at - 20, count=12)
    _event(api, "Pod", "queue-0", "BackOff", clock.at - 20)
    _event(api, "Pod", "minting-worker-extra-1", "BackOff", clock.at - 20)
    _event(api, "Service", "minting-worker", "Odd", clock.at - 20)
    _event(api, "Pod", pod, "Ancient", clock.at - 7200)
    seen = await Events(namespace="production", deployment="minting-worker").read(target, looking(clock))
    assert (seen["count"], seen["warnings"]) == (14, 13)
    assert seen["reasons"] == {"BackOff": 12, "FailedCreate": 1, "ScalingReplicaSet": 1}
    assert [(each["object"], each["age"]) for each in seen["events"]] == [
        (f"Pod/{pod}", 20.0),
        (f"ReplicaSet/{replica_set}", 40.0),
        ("Deployment/minting-worker", 60.0),
    ]


async def test_events_of_a_stateful_set_and_of_one_pod(
    api: ApiServer, target: KubernetesTarget, clock: HandClock
) -> None:
    """A stateful set's pods carry its name and a number; one pod is asked for by its name."""
    _event(api, "Pod", "queue-0", "Unhealthy", clock.at)
    _event(api, "Pod", "queue-1", "Unhealthy", clock.at)
    assert (await Events(namespace="production", statefulset="queue").read(target, looking(clock)))["count"] == 2
    assert (await Events(namespace="production", pod="queue-1").read(target, looking(clock)))["count"] == 1
    assert api.calls[-1].query["fieldSelector"] == "involvedObject.name=queue-1"


async def test_a_list_that_expired_is_temporary(api: ApiServer, target: KubernetesTarget) -> None:
    """410 means that the list has to be read anew: unknown for now, never evidence."""
    api.faults.append(Fault("list", "events", 410))
    with pytest.raises(TemporaryError, match="expired") as caught:
        await Events(namespace="production", pod="queue-1").read(target, looking())
    assert caught.value.reason == "status_410"


def test_parameters() -> None:
    """Exactly one object must be written."""
    with pytest.raises(ValidationError, match="exactly one"):
        Events(namespace="production")
