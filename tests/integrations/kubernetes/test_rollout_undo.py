"""Tests of the action kubernetes.rollout_undo: what goes back, and everything that makes it refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.rollout_undo import RolloutUndo
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import HandClock, acting


def _undo(**parameters: Any) -> RolloutUndo:
    return RolloutUndo.model_validate({"namespace": "production", "deployment": "minting-worker", **parameters})


def _image(api: ApiServer) -> str:
    found = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"]
    return str(found[0]["image"])


async def _reason(action: RolloutUndo, target: KubernetesTarget, clock: HandClock | None = None) -> str:
    with pytest.raises(PermanentError) as caught:
        await shown(action, target, clock)
    return caught.value.reason


async def test_the_previous_revision_comes_back_whole(api: ApiServer, target: KubernetesTarget) -> None:
    """The change tells the revisions, the images and the names of variables, and never a variable's value."""
    before = copy.deepcopy(api.get("deployments", "minting-worker")["spec"]["template"])
    api.roll("minting-worker", "minting:1.3", SOLANA_RPC_ENDPOINT="https://canary.example.com", MODE="fast")
    change = await shown(_undo(), target)
    assert (change.before["revision"], change.after["revision"]) == (8, 7)
    assert (change.before["images"], change.after["images"]) == (["minting:1.3"], ["minting:1.2"])
    assert change.after["goes_back"] == (
        "main: minting:1.2 instead of minting:1.3; main: other MODE, SOLANA_RPC_ENDPOINT"
    )
    assert "canary" not in str(change.as_json())
    await carried_out(_undo(), target)
    assert api.get("deployments", "minting-worker")["spec"]["template"] == before
    notes = api.get("deployments", "minting-worker")["metadata"]["annotations"]
    assert notes["deployment.kubernetes.io/revision"] == "9"


async def test_fields_that_nobody_knows_yet_come_back_too(api: ApiServer, target: KubernetesTarget) -> None:
    """What a newer API server has put into the pod template is neither lost nor changed by a rollback."""
    template = copy.deepcopy(api.get("deployments", "minting-worker")["spec"]["template"])
    template["spec"]["fieldOfTomorrow"] = {"deep": [1, {"x": None}]}
    api.change("deployments", "minting-worker", template=template)
    api.roll("minting-worker", "minting:1.3")
    await carried_out(_undo(), target)
    assert api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["fieldOfTomorrow"] == {
        "deep": [1, {"x": None}]
    }


async def test_an_explicit_revision(api: ApiServer, target: KubernetesTarget) -> None:
    """to_revision goes back further, is nothing to do where it runs already, and an unknown one is refused."""
    api.roll("minting-worker", "minting:1.3")
    api.roll("minting-worker", "minting:1.4")
    assert (await shown(_undo(), target)).after["revision"] == 8
    assert (await shown(_undo(to_revision=9), target)).empty
    with pytest.raises(PermanentError, match="no revision 3; it has 7, 8, 9") as caught:
        await shown(_undo(to_revision=3), target)
    assert caught.value.reason == "unknown_revision"
    await carried_out(_undo(to_revision=7), target)
    assert _image(api) == "minting:1.2"


async def test_rolling_back_twice_does_not_roll_forward(api: ApiServer, target: KubernetesTarget) -> None:
    """After a rollback the revision before is the broken one: it is not gone back to, whoever rolled back, and a new
    deployment ends the refusal."""
    api.roll("minting-worker", "broken:1.3")
    await carried_out(_undo(), target)
    assert (await shown(_undo(), target)).empty  # The same step: done already.
    other = acting()
    with pytest.raises(PermanentError) as caught:
        await _undo().diff(target, type(other)(**{**_fields(other), "key": "run-2.step0"}))
    assert caught.value.reason == "already_rolled_back"
    assert _image(api) == "minting:1.2"
    api.roll("minting-worker", "minting:1.4")
    assert (await shown(_undo(), target)).after["images"] == ["minting:1.2"]


def _fields(context: Any) -> dict[str, Any]:
    return {name: getattr(context, name) for name in type(context).__slots__}


async def test_only_a_recent_change_is_rolled_back(
    api: ApiServer, target: KubernetesTarget, clock: HandClock
) -> None:
    """An old rollout is not the cause, scaling does not make it young, and an unknown age is a no."""
    api.roll("minting-worker", "minting:1.3")
    clock.at += 1800
    api.set_replicas("deployments", "minting-worker", 5)
    assert (await shown(_undo(only_if_changed_within="31m"), target, clock)).after["revision"] == 7
    with pytest.raises(PermanentError, match="30m ago and not within 29m") as caught:
        await shown(_undo(only_if_changed_within="29m"), target, clock)
    assert caught.value.reason == "not_recent"
    api.get("deployments", "minting-worker")["status"]["conditions"] = []
    assert await _reason(_undo(only_if_changed_within="31m"), target, clock) == "unknown_age"


async def test_where_there_is_nothing_certain_to_go_back_to(api: ApiServer, target: KubernetesTarget) -> None:
    """A first revision, a pause and a controller that has not looked yet are each refused by name."""
    assert await _reason(_undo(), target) == "no_previous"
    api.roll("minting-worker", "minting:1.3")
    api.change("deployments", "minting-worker", paused=True)
    assert await _reason(_undo(), target) == "paused"
    api.settle = 60
    api.change("deployments", "minting-worker", paused=False)
    assert await _reason(_undo(), target) == "unknown_revision"


async def test_replica_sets_of_others_are_no_revisions(api: ApiServer, target: KubernetesTarget) -> None:
    """Only what the deployment controls counts, whatever labels other ReplicaSets carry."""
    api.add("deployments", "other", 1)
    stranger = next(each for key, each in api.objects.items() if key[0] == "replicasets" and "other" in key[2])
    stranger["metadata"]["labels"]["app"] = "minting-worker"
    stranger["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "5"
    assert await _reason(_undo(), target) == "no_previous"


async def test_a_rollback_that_never_becomes_ready_has_failed(api: ApiServer, target: KubernetesTarget) -> None:
    """While its pods are not ready it waits; past the progress deadline it has failed, and the old pods are there."""
    api.roll("minting-worker", "never:1")
    api.roll("minting-worker", "minting:1.4")
    api.change("deployments", "minting-worker", progressDeadlineSeconds=0.3)
    change = await shown(_undo(), target)
    await _undo().apply(target, change, acting())
    with pytest.raises(TemporaryError) as waiting:
        await _undo().verify(target, change, acting())
    assert waiting.value.reason == "not_ready"
    key = ("deployments", "production", "minting-worker")
    api.due[key] = api.rolled_at[api.objects[key]["metadata"]["uid"]] = 0.0
    with pytest.raises(PermanentError, match="exceeded its progress deadline") as caught:
        await _undo().verify(target, change, acting())
    assert caught.value.reason == "progress_deadline"
    assert api.objects[key]["status"]["availableReplicas"] == 3


async def test_every_deployment_is_verified_itself(api: ApiServer, target: KubernetesTarget) -> None:
    """T11: the runbook looks at one of two deployments that it rolls back; here each step waits for its own."""
    api.add("deployments", "event-service", 2)
    for name in ("minting-worker", "event-service"):
        api.roll(name, "minting:1.3")
    api.settle = 60
    for name in ("minting-worker", "event-service"):
        action = RolloutUndo(namespace="production", deployment=name)
        change = await shown(action, target)
        await action.apply(target, change, acting())
        with pytest.raises(TemporaryError, match=f"deployment/production/{name}"):
            await action.verify(target, change, acting())


async def test_what_git_keeps_is_not_rolled_back(api: ApiServer, target: KubernetesTarget, clock: HandClock) -> None:
    """Argo CD would deploy the broken version again: refused, or done and watched until its interval is over."""
    api.roll("minting-worker", "minting:1.3")
    api.get("deployments", "minting-worker")["metadata"]["labels"] = {"argocd.argoproj.io/instance": "minting"}
    with pytest.raises(PermanentError, match="Argo CD application minting") as caught:
        await shown(_undo(), target)
    assert caught.value.reason == "gitops_owned"
    action = _undo(allow_drift=True, drift_after="3m")
    change = await shown(action, target, clock)
    await action.apply(target, change, acting(clock))
    with pytest.raises(TemporaryError, match="180 s"):
        await action.verify(target, change, acting(clock))
    clock.at += 181
    await action.verify(target, change, acting(clock))
    api.roll("minting-worker", "minting:1.3")
    with pytest.raises(PermanentError) as reverted:
        await action.verify(target, change, acting(clock))
    assert reverted.value.reason == "changed"


async def test_the_way_forward_again(api: ApiServer, target: KubernetesTarget) -> None:
    """Taking a rollback back brings exactly the version of before, by its own revision."""
    api.roll("minting-worker", "minting:1.3", MODE="fast")
    change = await carried_out(_undo(), target)
    inverse = stored(_undo().inverse(change))
    assert inverse.model_dump(exclude_unset=True)["to_revision"] == 8
    await carried_out(inverse, target)
    assert _image(api) == "minting:1.3"


async def test_the_cause_of_a_change_goes_back_with_it(api: ApiServer, target: KubernetesTarget) -> None:
    """kubectl's note of why a revision was made does not stay behind and tell a lie."""
    notes = api.get("deployments", "minting-worker")["metadata"]["annotations"]
    notes["kubernetes.io/change-cause"] = "release 1.3"
    api.roll("minting-worker", "minting:1.3")
    await carried_out(_undo(), target)
    assert "kubernetes.io/change-cause" not in api.get("deployments", "minting-worker")["metadata"]["annotations"]


def test_parameters() -> None:
    """Revisions begin at 1, and durations have a unit."""
    for wrong in ({"to_revision": 0}, {"to_revision": "7"}, {"only_if_changed_within": "0s"}, {"only_from": "x"}):
        with pytest.raises(ValidationError):
            _undo(**wrong)
    assert _undo().needs() == {"namespaces": "production", "deployments": "minting-worker"}
    assert _undo().subject() == "deployment/production/minting-worker"
