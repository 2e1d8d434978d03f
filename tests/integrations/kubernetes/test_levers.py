"""What every Kubernetes lever promises: once, never over a newer change, back again, and a clear no without rights."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import ValidationError

from remediator.action import Action, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.kubernetes._rbac import role_documents
from remediator.integrations.kubernetes.set_env import SetEnv
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.kubernetes.apiserver import ApiServer, Fault, api_server
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.kubernetes.stages import _MAKE as MAKE
from tests.integrations.kubernetes.stages import furnish
from tests.integrations.support import HandClock, acting

VERSIONED = sorted(set(MAKE) - {"delete_pod", "job_from_cronjob", "exec"})
"""Those that are guarded by a resourceVersion."""
ANSWERED = sorted(set(MAKE) - {"exec"})
"""Those whose write is one HTTP request."""
BACK = ["cordon", "patch_service_selector", "rollout_pause", "rollout_resume", "rollout_undo", "scale", "set_env",
        "set_image", "set_resources", "uncordon"]  # fmt: skip


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, KubernetesTarget]]:
    """A cluster with one of everything, and a target on it that gives up early."""
    async with api_server() as api:
        furnish(api)
        commands = {"reload": {"argv": ["nginx", "-s", "reload"]}}
        target = KubernetesTarget.model_validate(
            {"kubeconfig": api.kubeconfig(tmp_path), "request_timeout": "300ms", "commands": commands}
        )
        yield api, target
        await target.close()


Cluster = tuple[ApiServer, KubernetesTarget]


@pytest.mark.parametrize("name", VERSIONED)
async def test_a_moving_status_does_not_stop_a_change(cluster: Cluster, name: str) -> None:
    """The version moves with every count in a status; what the change was made for is what must not have moved."""
    api, target = cluster
    action = MAKE[name](api)
    change = await shown(action, target)
    for found in api.objects.values():
        found["metadata"]["resourceVersion"] = api.next_version()
    await action.apply(target, change, acting())
    assert [call.verb for call in api.writes()] == ["patch", "patch"]
    assert await action.reconcile(target, change, acting()) is Happened.YES


@pytest.mark.parametrize("name", VERSIONED)
async def test_a_newer_change_is_never_overwritten(cluster: Cluster, name: str) -> None:
    """What somebody else has changed meanwhile stays as they made it, and the step says conflict."""
    api, target = cluster
    action = MAKE[name](api)
    change = await shown(action, target)
    interfere(api, name)
    world = copy.deepcopy(api.objects)
    with pytest.raises(TemporaryError) as caught:
        await action.apply(target, change, acting())
    assert caught.value.reason == "conflict"
    assert api.objects == world


def interfere(api: ApiServer, name: str) -> None:
    """Somebody else changes just what the lever ``name`` is about to change."""
    if name == "scale":
        api.set_replicas("deployments", "minting-worker", 9)
        api.act()
    elif name in ("cordon", "uncordon"):
        api.change("nodes", "node-1", "", unschedulable=name == "cordon")
    elif name in ("rollout_pause", "rollout_resume"):
        api.change("deployments", "minting-worker", paused=name == "rollout_pause")
    elif name == "patch_service_selector":
        api.change("services", "minting", selector={"app": "minting-worker", "version": "red"})
    else:
        template = copy.deepcopy(api.objects["deployments", "production", "minting-worker"]["spec"]["template"])
        (container,) = template["spec"]["containers"]
        container |= {"image": "minting:9", "env": [{"name": "MINT_CONCURRENCY", "value": "9"}]}
        container["resources"] = {"requests": {"cpu": "9"}}
        template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "2026-11-20T00:00:00Z"}
        api.change("deployments", "minting-worker", template=template)


@pytest.mark.parametrize("name", BACK)
async def test_a_change_can_be_taken_back_by_another_process(cluster: Cluster, name: str) -> None:
    """The stored inverse puts the world back, is empty once it is back, and does nothing over a newer change."""
    api, target = cluster
    action = MAKE[name](api)
    before = _wishes(api)
    change = await carried_out(action, target)
    assert _wishes(api) != before
    inverse = stored(action.inverse(change))
    await carried_out(inverse, target)
    assert _wishes(api) == before
    assert (await shown(inverse, target)).empty


@pytest.mark.parametrize("name", sorted(set(BACK) - {"cordon", "uncordon", "rollout_pause", "rollout_resume"}))
async def test_a_newer_change_is_not_taken_back(cluster: Cluster, name: str) -> None:
    """If what our change left is no longer there, taking it back is refused as changed."""
    api, target = cluster
    action = MAKE[name](api)
    inverse = stored(action.inverse(await carried_out(action, target)))
    interfere(api, name)
    world = _wishes(api)
    with pytest.raises(PermanentError) as caught:
        await shown(inverse, target)
    assert caught.value.reason == "changed"
    assert _wishes(api) == world


def _wishes(api: ApiServer) -> dict[str, Any]:
    """The wish of every object that people write."""
    api.act()
    written = ("deployments", "statefulsets", "services", "nodes")
    return {"/".join(key): copy.deepcopy(found["spec"]) for key, found in api.objects.items() if key[0] in written}


@pytest.mark.parametrize("kind", [500, 504, "hang", "reset", "garbage", "html"])
@pytest.mark.parametrize("name", ["set_env", "rollout_undo", "delete_pod", "job_from_cronjob"])
async def test_a_lost_answer_is_told_by_looking(cluster: Cluster, name: str, kind: int | str) -> None:
    """A write without an answer is unknown, and looking says what became of it: done if done, not done if not."""
    api, target = cluster
    for after in (False, True):
        action = MAKE[name](api)
        change = await shown(action, target)
        api.calls.clear()
        verb, resource = _write(api, name)
        api.faults.append(Fault(verb, resource, kind, after=after))  # type: ignore[arg-type]  # parametrized
        if kind == "garbage" and verb == "create":  # Nothing of the answer is needed there.
            await action.apply(target, change, acting())
        else:
            with pytest.raises(Unanswered, match="unknown"):
                await action.apply(target, change, acting())
        assert len(api.writes()) == 1
        happened = await action.reconcile(target, change, acting())
        assert happened is (Happened.YES if after else Happened.NO)


def _write(api: ApiServer, name: str) -> tuple[str, str]:
    """Verb and resource of the write that the lever makes."""
    if name == "delete_pod":
        return "create", "pods/eviction"
    return ("create", "jobs") if name == "job_from_cronjob" else ("patch", "deployments")


@pytest.mark.parametrize("name", ANSWERED)
async def test_a_crash_after_the_effect_is_seen(cluster: Cluster, name: str) -> None:
    """Before the effect looking says no, after it yes: whoever takes over knows without doing it again."""
    api, target = cluster
    action = MAKE[name](api)
    change = await shown(action, target)
    assert await action.reconcile(target, change, acting()) is Happened.NO
    await action.apply(target, change, acting())
    assert await action.reconcile(target, change, acting()) is Happened.YES
    assert len(api.writes()) == 1


@pytest.mark.parametrize("name", sorted(MAKE))
async def test_every_single_right_of_the_role_is_needed(cluster: Cluster, name: str) -> None:
    """With the Role that remediator rbac prints the lever works; without any one verb of it, it says clearly what is
    missing, and nothing has been changed unless only looking afterwards is not allowed."""
    api, target = cluster
    action: Any = MAKE[name](api)
    documents = role_documents(action.grants(), ("remediator", "remediator"))
    roles = [document for document in documents if document["kind"] in ("Role", "ClusterRole")]
    world = copy.deepcopy(api.objects)
    for document in range(len(roles)):
        for rule in range(len(roles[document]["rules"])):
            for verb in list(roles[document]["rules"][rule]["verbs"]):
                less = copy.deepcopy(roles)
                less[document]["rules"][rule]["verbs"].remove(verb)
                api.use_roles(yaml.safe_dump_all(less))
                api.objects = copy.deepcopy(world)
                await _denied(api, target, action, verb)
    api.objects = world
    api.use_roles(yaml.safe_dump_all(documents))
    change = await shown(action, target)
    await action.apply(target, change, acting())
    await action.verify(target, change, acting())


async def _denied(api: ApiServer, target: KubernetesTarget, action: Action[Any], verb: str) -> None:
    api.calls.clear()
    try:
        change = await shown(action, target)
        await action.apply(target, change, acting())
        await action.verify(target, change, acting())
    except PermanentError as error:
        assert error.reason == "status_403"
        assert "not allowed to; grant this verb on this resource" in str(error)
    else:
        # Looking for an autoscaler is the one look that may be left out, and the change says so.
        assert verb == "list"
        assert "HPA not checked" in change.summary


@pytest.mark.parametrize("name", sorted(MAKE))
async def test_labels_are_only_ever_names_and_values(cluster: Cluster, name: str) -> None:
    """Through every text parameter, a hostile text is refused, or asks for exactly the object of that name, or arrives
    byte for byte as the value that was approved."""
    api, target = cluster
    good = MAKE[name](api).model_dump(mode="json", exclude_unset=True)
    literal = type(MAKE[name](api)).literal
    kind = type(MAKE[name](api))
    for place in [key for key, value in good.items() if isinstance(value, str) and key not in literal]:
        for payload in PAYLOADS:
            api.calls.clear()
            try:
                action = kind.model_validate({**good, place: payload})
            except ValidationError:
                continue
            try:
                change = await action.diff(target, acting())
            except (PermanentError, TemporaryError):
                asked = {call.namespace for call in api.calls} | {call.name for call in api.calls}
                assert payload in asked or api.calls
                assert api.writes() == []
                continue
            if place == "image":
                assert change.after["image"] == payload
            else:  # A pod that is not there needs no deleting.
                assert name == "delete_pod"
                assert change.empty


async def test_a_hostile_value_of_a_variable_arrives_as_it_is(cluster: Cluster) -> None:
    """A variable takes any text but what Kubernetes would expand, byte for byte and into that variable only."""
    api, target = cluster
    arrived = 0
    for payload in PAYLOADS:
        try:
            action = SetEnv(namespace="production", deployment="minting-worker", env={"NOTE": payload})
        except ValidationError:
            continue
        try:
            change = await shown(action, target)
        except PermanentError as error:
            assert error.reason == "secret_value"
            continue
        await action.apply(target, change, acting())
        found = api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"]
        env = [{"name": "NOTE", "value": payload}]
        assert found == [{"name": "main", "image": "minting:1.2", "resources": {}, "env": env}]
        api.add("deployments", "minting-worker", 3)
        arrived += 1
    assert arrived > 200


@pytest.mark.parametrize("name", sorted(MAKE))
async def test_nothing_leaves_after_the_licence_ran_out(cluster: Cluster, name: str) -> None:
    """Not a byte of the effect is sent once the licence ran out."""
    api, target = cluster
    clock = HandClock()
    context = acting(clock)
    action = MAKE[name](api)
    change = await shown(action, target)
    clock.at = context.deadline + 1
    with pytest.raises(TemporaryError) as caught:
        await action.apply(target, change, context)
    assert caught.value.reason == "licence_expired"
    assert api.writes() == []


@pytest.mark.parametrize("name", sorted(MAKE))
def test_a_namespace_is_always_written(name: str) -> None:
    """T6: the runbooks omit the namespace in most commands; here nothing that lives in one has a default for it."""
    kind = type(MAKE[name](_Anything()))  # type: ignore[arg-type]  # only names are asked of it
    if "namespace" in kind.model_fields:
        assert kind.model_fields["namespace"].is_required()
    else:
        assert name in ("cordon", "uncordon")
    assert kind.effect in (Effect.CONDITIONAL, Effect.ONCE)


class _Anything:
    """A cluster that has one pod and takes every change."""

    objects: ClassVar[dict[tuple[str, str, str], Any]] = {("pods", "production", "a-pod"): {"metadata": {"labels": {}}}}

    def change(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def roll(self, *_: Any) -> None:
        """Nothing."""
