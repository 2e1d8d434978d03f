"""Tests of the action kubernetes.set_env: switches with a way back, and what is no switch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.set_env import SetEnv
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import HandClock, acting


def _set(**parameters: Any) -> SetEnv:
    return SetEnv.model_validate({"namespace": "production", "deployment": "minting-worker", **parameters})


def _env(api: ApiServer) -> Any:
    return api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"][0].get("env")


async def test_a_switch_has_a_way_back(api: ApiServer, target: KubernetesTarget) -> None:
    """T7: the runbook's switches of RPC, IPFS and concurrency have no way back; here the inverse, stored and found by
    another process, restores what was there, a variable that was not there included, and touches nothing else."""
    api.roll("minting-worker", "minting:1.3", SOLANA_RPC_ENDPOINT="https://rpc.example.com", OTHER="stays")
    before = copy.deepcopy(_env(api))
    wish = {"SOLANA_RPC_ENDPOINT": "https://fallback.example.com", "MINT_CONCURRENCY": "2"}
    change = await carried_out(_set(env=wish), target)
    assert change.summary == (
        "set MINT_CONCURRENCY='2' instead of nothing, SOLANA_RPC_ENDPOINT='https://fallback.example.com' instead of "
        "'https://rpc.example.com' in container main in deployment/production/minting-worker"
    )
    assert {each["name"]: each["value"] for each in _env(api)} == {**wish, "OTHER": "stays"}
    inverse = stored(_set(env=wish).inverse(change))
    await carried_out(inverse, target)
    assert _env(api) == before
    assert (await shown(inverse, target)).empty


async def test_a_later_switch_by_a_person_is_not_taken_back(api: ApiServer, target: KubernetesTarget) -> None:
    """If a person has set the variable to something else, the way back is refused."""
    change = await carried_out(_set(env={"MINT_CONCURRENCY": "2"}), target)
    api.roll("minting-worker", "minting:1.2", MINT_CONCURRENCY="3")
    with pytest.raises(PermanentError) as caught:
        await shown(stored(_set(env={"MINT_CONCURRENCY": "2"}).inverse(change)), target)
    assert caught.value.reason == "changed"


async def test_a_deployment_of_another_image_meanwhile_is_kept(api: ApiServer, target: KubernetesTarget) -> None:
    """Somebody else's new image does not stop the switch, and the switch does not stop the image."""
    change = await shown(_set(env={"MINT_CONCURRENCY": "2"}), target)
    api.roll("minting-worker", "minting:1.9", OTHER="new")
    await _set(env={"MINT_CONCURRENCY": "2"}).apply(target, change, acting())
    found = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"][0]
    assert found["image"] == "minting:1.9"
    assert {each["name"] for each in found["env"]} == {"OTHER", "MINT_CONCURRENCY"}


async def test_what_could_not_be_taken_back_is_left_alone(api: ApiServer, target: KubernetesTarget) -> None:
    """A variable from a Secret, and a value that looks like one, is not touched: nobody could show or restore it."""
    template = copy.deepcopy(api.get("deployments", "minting-worker")["spec"]["template"])
    template["spec"]["containers"][0]["env"] = [
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "DATABASE_URL", "value": "postgres://minting:canary-of-this-test@db/minting"},
    ]
    api.change("deployments", "minting-worker", template=template)
    for name, reason in (("FROM", "value_from"), ("DATABASE_URL", "secret_value")):
        with pytest.raises(PermanentError) as caught:
            await shown(_set(env={name: "x"}), target)
        assert caught.value.reason == reason
        assert "canary" not in str(caught.value)
    with pytest.raises(PermanentError) as caught:
        await shown(_set(env={"RPC": "https://user:canary-password@rpc.example.com"}), target)
    assert caught.value.reason == "secret_value"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "at least 1 item"),
        ({"A B": "x"}, "pattern"),
        ({"A=B": "x"}, "pattern"),
        ({"ADMIN_TOKEN": "x"}, "looks like a secret"),
        ({"DB_PASSWORD": "x"}, "looks like a secret"),
        ({"LD_PRELOAD": "x"}, "decides which code runs"),
        ({"NODE_OPTIONS": "--require=/x"}, "decides which code runs"),
        ({"PYTHONPATH": "x"}, "decides which code runs"),
        ({"JAVA_TOOL_OPTIONS": "x"}, "decides which code runs"),
        ({"PATH": "x"}, "decides which code runs"),
        ({"A": "$(ADMIN)"}, "would replace"),
        ({"A": "x\x00"}, "pattern"),
        ({"A": 2}, "valid string"),
    ],
)
def test_what_is_no_switch_is_refused_at_load(env: dict[str, Any], message: str) -> None:
    """Secrets, variables that decide about code, and values that Kubernetes would expand never get into a rule."""
    with pytest.raises(ValidationError, match=message):
        _set(env=env)


async def test_the_container_is_named_where_there_are_two(api: ApiServer, target: KubernetesTarget) -> None:
    """With a sidecar the rule says which container; a wrong name is answered with the right ones."""
    template = copy.deepcopy(api.get("deployments", "minting-worker")["spec"]["template"])
    template["spec"]["containers"].append({"name": "proxy", "image": "proxy:1", "resources": {}})
    api.change("deployments", "minting-worker", template=template)
    for parameters in ({}, {"container": "none"}):
        with pytest.raises(PermanentError, match="main, proxy") as caught:
            await shown(_set(env={"A": "1"}, **parameters), target)
        assert caught.value.reason == "container"
    await carried_out(_set(env={"A": "1"}, container="proxy"), target)
    found = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"]
    assert [each.get("env") for each in found] == [None, [{"name": "A", "value": "1"}]]


async def test_a_switch_that_breaks_the_pods_fails(api: ApiServer, target: KubernetesTarget) -> None:
    """Pods that do not become ready past the progress deadline fail the step."""
    api.roll("minting-worker", "minting:never")
    change = await shown(_set(env={"A": "1"}), target)
    await _set(env={"A": "1"}).apply(target, change, acting())
    with pytest.raises(TemporaryError, match="updated"):
        await _set(env={"A": "1"}).verify(target, change, acting())
    key = ("deployments", "production", "minting-worker")
    api.change("deployments", "minting-worker", progressDeadlineSeconds=0)
    api.due[key] = 0.0
    with pytest.raises(PermanentError) as caught:
        await _set(env={"A": "1"}).verify(target, change, acting())
    assert caught.value.reason == "progress_deadline"


async def test_a_switch_of_something_paused_is_refused(api: ApiServer, target: KubernetesTarget) -> None:
    """The new value would reach no pod until somebody resumes it."""
    api.change("deployments", "minting-worker", paused=True)
    with pytest.raises(PermanentError) as caught:
        await shown(_set(env={"A": "1"}), target)
    assert caught.value.reason == "paused"


async def test_what_git_keeps(api: ApiServer, target: KubernetesTarget, clock: HandClock) -> None:
    """Flux would put the variable back: refused, unless the rule says so; and then it is seen when Flux did."""
    found = api.get("deployments", "minting-worker")["metadata"]
    found["labels"] = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"}
    with pytest.raises(PermanentError, match="Flux Kustomization apps") as caught:
        await shown(_set(env={"A": "1"}), target)
    assert caught.value.reason == "gitops_owned"
    action = _set(env={"A": "1"}, allow_drift=True, drift_after="2m")
    change = await shown(action, target, clock)
    assert change.summary.endswith("(against the Flux Kustomization apps)")
    await action.apply(target, change, acting(clock))
    with pytest.raises(TemporaryError) as waiting:
        await action.verify(target, change, acting(clock))
    assert waiting.value.reason == "drift"
    api.roll("minting-worker", "minting:1.2")
    with pytest.raises(PermanentError) as reverted:
        await action.verify(target, change, acting(clock))
    assert reverted.value.reason == "changed"
    assert stored(action.inverse(change)).model_dump()["allow_drift"]
