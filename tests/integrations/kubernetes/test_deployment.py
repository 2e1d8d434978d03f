"""Tests of the probe kubernetes.deployment, with the real client over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.action import canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.deployment import Deployment
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, Fault, Grant
from tests.integrations.support import HandClock, looking
from tests.servers import free_port

LOOK = Deployment(namespace="production", name="minting-worker")


async def test_a_deployment_as_evidence(api: ApiServer, target: KubernetesTarget) -> None:
    """Every number of the evidence is the one of the API, and the whole is JSON."""
    clock = HandClock()
    api.now = clock.now
    api.add("deployments", "minting-worker", 3)
    clock.at += 90
    evidence = await LOOK.read(target, looking(clock))
    version = api.objects["deployments", "production", "minting-worker"]["metadata"]["resourceVersion"]
    assert evidence == {
        "desired": 3,
        "ready": 3,
        "updated": 3,
        "available": 3,
        "unavailable": 0,
        "generation": 1,
        "observed_generation": 1,
        "paused": False,
        "images": ["minting:1.2"],
        "env": {},
        "revision": 7,
        "rollout": "NewReplicaSetAvailable",
        "rollout_age": 90.0,
        "resource_version": version,
    }
    canonical_json(evidence)
    assert api.writes() == []


async def test_a_deployment_on_its_way(api: ApiServer, target: KubernetesTarget) -> None:
    """While the controller works, desired and ready differ, and so do the generations."""
    api.settle = 60
    api.set_replicas("deployments", "minting-worker", 8)
    evidence = await LOOK.read(target, looking())
    assert (evidence["desired"], evidence["ready"]) == (8, 3)
    assert (evidence["generation"], evidence["observed_generation"]) == (2, 1)


async def test_a_deployment_without_replicas(api: ApiServer, target: KubernetesTarget) -> None:
    """Numbers that the API leaves out are zero."""
    api.add("deployments", "minting-worker", 0, paused=True)
    evidence = await LOOK.read(target, looking())
    assert (evidence["desired"], evidence["ready"], evidence["available"]) == (0, 0, 0)
    assert evidence["paused"]


async def test_named_variables_are_evidence_and_secrets_are_not(api: ApiServer, target: KubernetesTarget) -> None:
    """Only what the rule names is shown; what comes from a Secret, or looks like one, makes the evidence unknown."""
    api.add("deployments", "minting-worker", 3)
    (container,) = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"]
    container["env"] = [
        {"name": "RPC", "value": "https://one.example"},
        {"name": "OTHER", "value": "1"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "rpc"}}},
        {"name": "URL", "value": "postgres://user:hunter2hunter2@db/x"},
    ]
    named = {"namespace": "production", "name": "minting-worker"}
    evidence = await Deployment.model_validate({**named, "env": ["RPC", "NONE"]}).read(target, looking())
    assert evidence["env"] == {"RPC": "https://one.example", "NONE": None}
    for name, reason in {"FROM": "value_from", "URL": "secret_value"}.items():
        with pytest.raises(PermanentError) as caught:
            await Deployment.model_validate({**named, "env": [name]}).read(target, looking())
        assert caught.value.reason == reason and "hunter2" not in str(caught.value)
    with pytest.raises(PermanentError, match='has no container "side"'):
        await Deployment.model_validate({**named, "env": ["RPC"], "container": "side"}).read(target, looking())


async def test_what_is_not_there_and_what_is_not_allowed(api: ApiServer, target: KubernetesTarget) -> None:
    """Missing objects and missing rights are permanent, and the message names verb, resource and namespace."""
    with pytest.raises(PermanentError, match='get deployments "none" in namespace production: it does not exist'):
        await Deployment(namespace="production", name="none").read(target, looking())
    api.grants = [Grant(frozenset({"get"}), frozenset({"deployments"}), frozenset({"other"}))]
    with pytest.raises(PermanentError, match=r'get deployments "minting-worker".*not allowed') as caught:
        await LOOK.read(target, looking())
    assert caught.value.reason == "status_403"


@pytest.mark.parametrize("kind", [500, 503, 429, "hang", "reset", "garbage", "html"])
async def test_an_api_server_in_trouble_is_temporary(api: ApiServer, tmp_path: Path, kind: int | str) -> None:
    """Errors, silence, broken connections and nonsense are unknown for now, never evidence."""
    target = KubernetesTarget.model_validate({"kubeconfig": api.kubeconfig(tmp_path), "request_timeout": "200ms"})
    # The HTTP client repeats a read once when a connection breaks, so the fault is there more than once.
    api.faults.append(Fault("get", "deployments", kind, times=5))  # type: ignore[arg-type]  # parametrized
    with pytest.raises(TemporaryError, match="cannot get deployments"):
        await LOOK.read(target, looking())
    await target.close()


async def test_no_api_server_is_temporary(api: ApiServer, tmp_path: Path) -> None:
    """A refused connection is temporary and says so."""
    api.url = f"http://127.0.0.1:{free_port()}"
    target = KubernetesTarget(kubeconfig=api.kubeconfig(tmp_path))
    with pytest.raises(TemporaryError, match="no connection") as caught:
        await LOOK.read(target, looking())
    assert caught.value.reason == "connect"
    await target.close()


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a b", "a\n", "-a", "a" * 300, "a%2fb", "*", "ü"])
def test_only_kubernetes_names_are_names(name: str) -> None:
    """What Kubernetes would not accept as a name never reaches a URL."""
    with pytest.raises(ValidationError, match="name"):
        Deployment(namespace="production", name=name)
    with pytest.raises(ValidationError, match="namespace"):
        Deployment(namespace=name, name="x")


def test_needs() -> None:
    """Namespace and deployment have to be permitted."""
    assert LOOK.needs() == {"namespaces": "production", "deployments": "minting-worker"}
