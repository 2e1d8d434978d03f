"""Tests of the probe kubernetes.rollout_history."""

from __future__ import annotations

import pytest

from remediator.action import canonical_json
from remediator.errors import PermanentError
from remediator.integrations.kubernetes.rollout_history import RolloutHistory
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.support import HandClock, looking

LOOK = RolloutHistory(namespace="production", deployment="minting-worker")


async def test_revisions_newest_first(api: ApiServer, target: KubernetesTarget, clock: HandClock) -> None:
    """Every revision with its images and pods, the current one, the one before, and how old the rollout is."""
    api.roll("minting-worker", "minting:1.3")
    clock.at += 60
    seen = await LOOK.read(target, looking(clock))
    assert (seen["current"], seen["previous"], seen["rolled_back"], seen["rollout_age"]) == (8, 7, False, 60.0)
    assert [(each["revision"], each["images"], each["replicas"]) for each in seen["revisions"]] == [
        (8, ["minting:1.3"], 3),
        (7, ["minting:1.2"], 0),
    ]
    canonical_json(seen)


async def test_a_rollback_is_seen_as_one(api: ApiServer, target: KubernetesTarget) -> None:
    """An older revision that is current again has a new number, and is told from a new version."""
    api.roll("minting-worker", "minting:1.3")
    api.change("deployments", "minting-worker", template=_template(api, "minting:1.2"))
    seen = await LOOK.read(target, looking())
    assert (seen["current"], seen["previous"], seen["rolled_back"]) == (9, 8, True)
    assert [each["revision"] for each in seen["revisions"]] == [9, 8]


def _template(api: ApiServer, image: str) -> object:
    sets = [each["spec"]["template"] for key, each in api.objects.items() if key[0] == "replicasets"]
    (found,) = [each for each in sets if each["spec"]["containers"][0]["image"] == image]
    labels = {name: text for name, text in found["metadata"]["labels"].items() if name != "pod-template-hash"}
    return {**found, "metadata": {"labels": labels}}


async def test_what_is_not_there(target: KubernetesTarget) -> None:
    """A deployment that does not exist is a permanent error by name."""
    with pytest.raises(PermanentError, match='get deployments "none"'):
        await RolloutHistory(namespace="production", deployment="none").read(target, looking())
    assert LOOK.needs() == {"namespaces": "production", "deployments": "minting-worker"}
