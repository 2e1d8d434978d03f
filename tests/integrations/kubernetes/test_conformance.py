"""The contract suite of the levers: the same promises on the stand-in and by `make test-kubernetes` on a real cluster.

What passes here on both keeps the stand-in honest, and with it every other test of this folder.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from remediator.action import Action, Change, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._rbac import review, role_documents
from remediator.integrations.kubernetes.cordon import Cordon
from remediator.integrations.kubernetes.delete_pod import DeletePod
from remediator.integrations.kubernetes.deployment import Deployment
from remediator.integrations.kubernetes.job_from_cronjob import JobFromCronjob
from remediator.integrations.kubernetes.patch_service_selector import PatchServiceSelector
from remediator.integrations.kubernetes.pods import Pods
from remediator.integrations.kubernetes.rollout_history import RolloutHistory
from remediator.integrations.kubernetes.rollout_pause import RolloutPause
from remediator.integrations.kubernetes.rollout_restart import RolloutRestart
from remediator.integrations.kubernetes.rollout_undo import RolloutUndo
from remediator.integrations.kubernetes.scale import Scale
from remediator.integrations.kubernetes.set_env import SetEnv
from remediator.integrations.kubernetes.set_image import SetImage
from remediator.integrations.kubernetes.set_resources import SetResources
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.carrying import shown, stored
from tests.integrations.kubernetes.ground import CORE, Ground, ground
from tests.integrations.support import HandClock, acting, looking


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Ground]:
    """A namespace with the deployment minting-worker."""
    async with ground(tmp_path) as it:
        await it.deploy("minting-worker")
        yield it


def _now() -> HandClock:
    """A clock that shows what a real cluster's clock shows."""
    return HandClock(time.time())


async def _verified(action: Action[Any], target: KubernetesTarget, change: Change) -> None:
    """Ask as the engine does, again and again, until the post-condition holds."""
    for _ in range(600):
        try:
            return await action.verify(target, change, acting(_now()))
        except TemporaryError:
            await asyncio.sleep(0.1)
    raise AssertionError("the change is not seen to work")


async def _carried_out(action: Action[Any], here: Ground) -> Change:
    """From the change to the verified effect, which looking again confirms."""
    change = await shown(action, here.target, _now())
    assert not change.empty
    assert await action.reconcile(here.target, change, acting()) is Happened.NO
    await action.apply(here.target, change, acting(_now()))
    await _verified(action, here.target, change)
    assert await action.reconcile(here.target, change, acting()) is Happened.YES
    assert (await shown(action, here.target, _now())).empty
    return change


def _where(here: Ground, **parameters: Any) -> dict[str, Any]:
    return {"namespace": here.namespace, "deployment": "minting-worker", **parameters}


async def _back(action: Action[Any], change: Change, here: Ground) -> None:
    inverse = stored(action.inverse(change))
    undone = await shown(inverse, here.target)
    await inverse.apply(here.target, undone, acting(_now()))
    await _verified(inverse, here.target, undone)
    assert (await shown(inverse, here.target)).empty


async def test_scaling(here: Ground) -> None:
    """Up, back, and never over a number that somebody else has set meanwhile."""
    up = Scale.model_validate(_where(here, at_least=4, max=6))
    change = await _carried_out(up, here)
    assert (await here.deployment("minting-worker"))["spec"]["replicas"] == 4
    await _back(up, change, here)
    change = await shown(up, here.target)
    await here.change("deployments", "minting-worker", {"replicas": 5})
    with pytest.raises(TemporaryError) as caught:
        await up.apply(here.target, change, acting())
    assert caught.value.reason == "conflict"
    assert (await here.deployment("minting-worker"))["spec"]["replicas"] == 5


async def test_an_autoscaler_owns_the_replicas(here: Ground) -> None:
    """Refused by its name; with limits the autoscaler moves them itself, and its limits go back."""
    body = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "minting-hpa"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "minting-worker"},
            "minReplicas": 1,
            "maxReplicas": 3,
        },
    }
    await here.send("POST", here.path("horizontalpodautoscalers", base="/apis/autoscaling/v1"), body)
    with pytest.raises(PermanentError, match="minting-hpa") as caught:
        await shown(Scale.model_validate(_where(here, at_least=4, max=6)), here.target)
    assert caught.value.reason == "hpa_owned"
    limits = Scale.model_validate(_where(here, at_least=4, max=6, autoscaler="limits"))
    change = await _carried_out(limits, here)
    assert (await here.deployment("minting-worker"))["spec"]["replicas"] == 4
    inverse = stored(limits.inverse(change))
    undone = await shown(inverse, here.target)
    await inverse.apply(here.target, undone, acting())
    assert (await shown(inverse, here.target)).empty


async def test_restarting(here: Ground) -> None:
    """Every pod is another one afterwards."""
    pods = Pods(namespace=here.namespace, deployment="minting-worker")
    before = {each["name"] for each in (await pods.read(here.target, looking()))["pods"]}
    await _carried_out(RolloutRestart.model_validate(_where(here)), here)
    await here.settled("minting-worker")
    seen = await pods.read(here.target, looking())
    assert (seen["count"], seen["ready"]) == (2, 2)
    assert not before & {each["name"] for each in seen["pods"]}


async def test_rolling_back(here: Ground) -> None:
    """To the revision that was shown, once, only while young, not twice, and forward again."""
    await here.roll("minting-worker", "minting:1.3", MODE="fast")
    await here.settled("minting-worker")
    look = RolloutHistory(namespace=here.namespace, deployment="minting-worker")
    history = await look.read(here.target, looking(_now()))
    assert [each["images"] for each in history["revisions"]] == [["minting:1.3"], ["minting:1.2"]]
    assert not history["rolled_back"]
    assert 0 <= history["rollout_age"] < 120
    undo = RolloutUndo.model_validate(_where(here, only_if_changed_within="5m"))
    late = HandClock(time.time() + 600)
    with pytest.raises(PermanentError) as old:
        await shown(undo, here.target, late)
    assert old.value.reason == "not_recent"
    change = await _carried_out(undo, here)
    assert change.after["revision"] == history["previous"]
    assert change.after["goes_back"] == "main: minting:1.2 instead of minting:1.3; main: other MODE"
    found = await here.container("minting-worker")
    assert (found["image"], found.get("env")) == ("minting:1.2", None)
    assert (await look.read(here.target, looking(_now())))["rolled_back"]
    another = acting(_now())
    fields = {name: getattr(another, name) for name in type(another).__slots__}
    with pytest.raises(PermanentError) as twice:
        await undo.diff(here.target, type(another)(**{**fields, "key": "another"}))
    assert twice.value.reason == "already_rolled_back"
    await _back(undo, change, here)
    assert (await here.container("minting-worker"))["image"] == "minting:1.3"


async def test_a_rollout_that_never_becomes_ready(here: Ground) -> None:
    """Past the progress deadline the step has failed, and the pods of before still serve."""
    await here.change("deployments", "minting-worker", {"progressDeadlineSeconds": 2})
    action = SetImage.model_validate(_where(here, image="minting:never"))
    change = await shown(action, here.target)
    await action.apply(here.target, change, acting())
    with pytest.raises(PermanentError, match="progress deadline") as caught:
        await _verified(action, here.target, change)
    assert caught.value.reason == "progress_deadline"
    seen = await Deployment(namespace=here.namespace, name="minting-worker").read(here.target, looking(_now()))
    assert (seen["available"], seen["rollout"]) == (2, "ProgressDeadlineExceeded")
    await _back(action, change, here)


async def test_switching_variables(here: Ground) -> None:
    """Only the named variables change, and taking them back leaves the pod template as it was."""
    await here.roll("minting-worker", "minting:1.2", RPC="https://rpc.example.com", OTHER="stays")
    await here.settled("minting-worker")
    before = (await here.deployment("minting-worker"))["spec"]["template"]
    action = SetEnv.model_validate(_where(here, env={"RPC": "https://fallback.example.com", "MINT_CONCURRENCY": "2"}))
    change = await _carried_out(action, here)
    found = {each["name"]: each["value"] for each in (await here.container("minting-worker"))["env"]}
    assert found == {"RPC": "https://fallback.example.com", "MINT_CONCURRENCY": "2", "OTHER": "stays"}
    await _back(action, change, here)
    assert (await here.deployment("minting-worker"))["spec"]["template"] == before


async def test_images_and_resources(here: Ground) -> None:
    """Both can be set and taken back, and what the cluster would refuse is known before."""
    action = SetResources.model_validate(_where(here, requests={"memory": "512Mi"}, limits={"memory": "1Gi"}))
    change = await _carried_out(action, here)
    more = SetResources.model_validate(_where(here, requests={"memory": "2Gi"}))
    with pytest.raises(PermanentError, match="memory limit") as caught:
        await shown(more, here.target)
    assert caught.value.reason == "status_422"
    await _back(action, change, here)
    assert (await here.container("minting-worker"))["resources"] == {}
    image = SetImage.model_validate(_where(here, image="registry.example.com/minting:1.4"))
    await _back(image, await _carried_out(image, here), here)


async def test_a_moving_status_and_a_newer_change(here: Ground) -> None:
    """A version that moved with the status is no conflict; a change of the same thing by somebody else is."""
    action = SetEnv.model_validate(_where(here, env={"A": "1"}))
    change = await shown(action, here.target)
    await here.change("deployments", "minting-worker", {"replicas": 3})
    await here.settled("minting-worker")
    await action.apply(here.target, change, acting())
    await _verified(action, here.target, change)
    again = SetEnv.model_validate(_where(here, env={"A": "2"}))
    change = await shown(again, here.target)
    await here.roll("minting-worker", "minting:1.2", A="7")
    with pytest.raises(TemporaryError) as caught:
        await again.apply(here.target, change, acting())
    assert caught.value.reason == "conflict"
    assert (await here.container("minting-worker"))["env"] == [{"name": "A", "value": "7"}]


async def test_blue_and_green(here: Ground) -> None:
    """The selector goes to the colour that has ready pods, and back."""
    for colour in ("blue", "green"):
        await here.deploy(f"minting-{colour}", tier="web", version=colour)
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "minting"},
        "spec": {"selector": {"tier": "web", "version": "blue"}, "ports": [{"port": 80}]},
    }
    await here.send("POST", here.path("services", base=CORE), body)

    def to(colour: str) -> PatchServiceSelector:
        return PatchServiceSelector(namespace=here.namespace, service="minting", selector={"version": colour})

    change = await _carried_out(to("green"), here)
    found = await here.send("GET", here.path("services", "minting", CORE))
    assert found["spec"]["selector"] == {"tier": "web", "version": "green"}
    with pytest.raises(PermanentError) as caught:
        await shown(to("red"), here.target)
    assert caught.value.reason == "no_ready_pods"
    await _back(to("green"), change, here)


async def test_pausing(here: Ground) -> None:
    """A paused deployment does not roll out, and goes on when it is resumed."""
    action = RolloutPause.model_validate(_where(here))
    change = await _carried_out(action, here)
    await here.roll("minting-worker", "minting:1.3")
    await _back(action, change, here)
    await here.settled("minting-worker")
    seen = await Deployment(namespace=here.namespace, name="minting-worker").read(here.target, looking(_now()))
    assert (seen["paused"], seen["images"]) == (False, ["minting:1.3"])


async def test_deleting_a_pod(here: Ground) -> None:
    """The pod goes and another one comes."""
    pods = Pods(namespace=here.namespace, deployment="minting-worker")
    name = (await pods.read(here.target, looking()))["pods"][0]["name"]
    await _carried_out(DeletePod(namespace=here.namespace, pod=name, respect_budget=False), here)
    await here.settled("minting-worker")
    assert name not in {each["name"] for each in (await pods.read(here.target, looking()))["pods"]}


async def test_closing_a_node(here: Ground) -> None:
    """A node is closed and opened again; its own controller does not mind."""
    node = f"remediator-{uuid.uuid4().hex[:8]}"
    await here.send("POST", f"{CORE}/nodes", {"metadata": {"name": node}})
    try:
        action = Cordon(node=node, max_cordoned=1000)
        await _back(action, await _carried_out(action, here), here)
    finally:
        await here.send("DELETE", f"{CORE}/nodes/{node}")


async def test_the_printed_role_is_exactly_enough(here: Ground) -> None:
    """With the Role of remediator rbac a rule's steps work and nothing is missing or too much; without one verb it is a
    clear no that names the verb."""
    steps: list[Any] = [
        Scale.model_validate(_where(here, at_least=3, max=4)),
        RolloutRestart.model_validate(_where(here)),
        RolloutUndo.model_validate(_where(here)),
    ]
    grants = [grant for step in steps for grant in step.grants()]
    documents = role_documents(grants, (here.namespace, "remediator"))
    target = await here.limited(documents)
    finding = await review(await target.cluster(), grants)
    assert (finding.missing, finding.surplus) == ([], [])
    for step in steps[:2]:
        change = await shown(step, target)
        await step.apply(target, change, acting(_now()))
        await _verified(step, target, change)
    here.all_rights()
    less = [{**document} for document in documents]
    less[0]["rules"] = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "patch"]} for rule in less[0]["rules"]
    ]
    target = await here.limited(less)
    with pytest.raises(PermanentError, match=r"patch deployments/scale .*grant this verb") as caught:
        step = Scale.model_validate(_where(here, at_least=4, max=4))
        await step.apply(target, await shown(step, target), acting())
    assert caught.value.reason == "status_403"
    finding = await review(await target.cluster(), grants)
    assert f'patch deployments.apps/scale "minting-worker" in namespace {here.namespace}' in finding.missing
    here.all_rights()


async def test_running_a_cron_job_now(here: Ground) -> None:
    """One job of the step, and of the cron job's template."""
    container = {"name": "migrate", "image": "migrate:1.2"}
    nowhere = {"remediator.io/none": "none"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container], "nodeSelector": nowhere}}
    spec = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": template}}}
    body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "migrate"}, "spec": spec}
    await here.send("POST", here.path("cronjobs", base="/apis/batch/v1"), body)
    action = JobFromCronjob(namespace=here.namespace, cronjob="migrate")
    change = await shown(action, here.target)
    await action.apply(here.target, change, acting())
    assert await action.reconcile(here.target, change, acting()) is Happened.YES
    assert (await shown(action, here.target)).empty
    jobs = await here.send("GET", here.path("jobs", base="/apis/batch/v1"))
    assert [each["metadata"]["name"] for each in jobs["items"]] == [change.after["job"]]
