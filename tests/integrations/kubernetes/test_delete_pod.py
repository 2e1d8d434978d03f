"""Tests of the action kubernetes.delete_pod."""

from __future__ import annotations

import pytest

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.delete_pod import DeletePod
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown
from tests.integrations.support import acting


def _pods(api: ApiServer, prefix: str) -> dict[str, str]:
    api.act()
    pods = [each for key, each in api.objects.items() if key[0] == "pods" and key[2].startswith(prefix)]
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in pods}


@pytest.mark.parametrize("respect_budget", [True, False])
async def test_a_pod_is_replaced(api: ApiServer, target: KubernetesTarget, respect_budget: bool) -> None:
    """The pod goes, its controller makes another one, and a pod that is gone needs nothing."""
    before = _pods(api, "minting-worker")
    name = min(before)
    action = DeletePod(namespace="production", pod=name, respect_budget=respect_budget)
    change = await carried_out(action, target)
    assert before[name] not in _pods(api, "minting-worker").values()
    assert len(_pods(api, "minting-worker")) == 3
    assert (await shown(action, target)).empty
    assert action.inverse(change) is None


async def test_its_successor_is_not_deleted(api: ApiServer, target: KubernetesTarget) -> None:
    """A stateful set gives the new pod the same name: the change was made for the old one, and only for it."""
    before = _pods(api, "queue")["queue-1"]
    action = DeletePod(namespace="production", pod="queue-1")
    change = await shown(action, target)
    await action.apply(target, change, acting())
    after = _pods(api, "queue")["queue-1"]
    assert after != before
    with pytest.raises(TemporaryError) as caught:
        await action.apply(target, change, acting())
    assert caught.value.reason == "conflict"
    assert _pods(api, "queue")["queue-1"] == after
    await action.verify(target, change, acting())
    assert await action.reconcile(target, change, acting()) is Happened.YES


async def test_a_budget_holds_it_back(api: ApiServer, target: KubernetesTarget) -> None:
    """A disruption budget that allows none makes the eviction wait; deleting outright is for the rule to say."""
    api.answers.budgets.append({"app": "minting-worker"})
    name = min(_pods(api, "minting-worker"))
    action = DeletePod(namespace="production", pod=name)
    with pytest.raises(TemporaryError, match=r"disruption budget.*asks to wait 1 s") as caught:
        await action.apply(target, await shown(action, target), acting())
    assert caught.value.reason == "status_429"
    assert name in _pods(api, "minting-worker")
    await carried_out(DeletePod(namespace="production", pod=name, respect_budget=False), target)


async def test_a_pod_that_nobody_replaces_is_kept(api: ApiServer, target: KubernetesTarget) -> None:
    """Without a controller, or with one that ends with its pod, the pod would be lost."""
    api.put("pods", "alone", spec={"containers": []}, status={"phase": "Running"})
    api.put("pods", "migrating", spec={"containers": []}, status={}, metadata={
        "ownerReferences": [{"kind": "Job", "name": "migrate", "uid": "u", "controller": True}]
    })  # fmt: skip
    for name, owner in (("alone", "nobody"), ("migrating", "Job")):
        with pytest.raises(PermanentError, match=f"belongs to {owner}") as caught:
            await shown(DeletePod(namespace="production", pod=name), target)
        assert caught.value.reason == "unowned"


async def test_a_pod_that_is_ending_is_waited_for(api: ApiServer, target: KubernetesTarget) -> None:
    """While the kubelet still ends it, it is not gone; and nothing is to be done about it again."""
    name = min(_pods(api, "minting-worker"))
    action = DeletePod(namespace="production", pod=name)
    change = await shown(action, target)
    api.objects["pods", "production", name]["metadata"]["deletionTimestamp"] = "2026-11-20T00:00:00Z"
    assert (await shown(action, target)).empty
    assert await action.reconcile(target, change, acting()) is Happened.YES
    with pytest.raises(TemporaryError) as caught:
        await action.verify(target, change, acting())
    assert caught.value.reason == "not_gone"
