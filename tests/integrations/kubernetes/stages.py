"""The stages of kubernetes actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from remediator.action import Action
from remediator.integrations.kubernetes.cordon import Cordon
from remediator.integrations.kubernetes.delete_pod import DeletePod
from remediator.integrations.kubernetes.exec import Exec
from remediator.integrations.kubernetes.job_from_cronjob import JobFromCronjob
from remediator.integrations.kubernetes.patch_service_selector import PatchServiceSelector
from remediator.integrations.kubernetes.rollout_pause import RolloutPause
from remediator.integrations.kubernetes.rollout_restart import RolloutRestart
from remediator.integrations.kubernetes.rollout_resume import RolloutResume
from remediator.integrations.kubernetes.rollout_undo import RolloutUndo
from remediator.integrations.kubernetes.scale import Scale
from remediator.integrations.kubernetes.set_env import SetEnv
from remediator.integrations.kubernetes.set_image import SetImage
from remediator.integrations.kubernetes.set_resources import SetResources
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.integrations.kubernetes.uncordon import Uncordon
from tests.integrations.arrangements import Stage
from tests.integrations.kubernetes.apiserver import ApiServer, api_server

Make = Callable[[ApiServer], Action[Any]]
WHERE: dict[str, Any] = {"namespace": "production", "deployment": "minting-worker"}
MIGRATE = {
    "concurrencyPolicy": "Forbid",
    "schedule": "0 0 1 1 *",
    "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "migrate", "image": "migrate:1.2"}]}}}},
}


def furnish(api: ApiServer) -> str:
    """A namespace with one of everything that is acted on; returns the name of one of the pods."""
    api.add("deployments", "minting-worker", 3)
    api.add("statefulsets", "queue", 3)
    api.put("services", "minting", spec={"selector": {"app": "minting-worker"}})
    api.put("cronjobs", "migrate", spec=MIGRATE, status={})
    api.put("nodes", "node-1", "", spec={})
    api.put("nodes", "node-2", "", spec={})
    return sorted(name for resource, _, name in api.objects if resource == "pods")[0]


def _paused(api: ApiServer) -> Action[Any]:
    api.change("deployments", "minting-worker", paused=True)
    return RolloutResume(**WHERE)


def _closed(api: ApiServer) -> Action[Any]:
    api.change("nodes", "node-1", "", unschedulable=True)
    return Uncordon(node="node-1")


def _rolled(api: ApiServer) -> Action[Any]:
    api.roll("minting-worker", "minting:1.3")
    return RolloutUndo(**WHERE)


def _switched(api: ApiServer) -> Action[Any]:
    api.change("services", "minting", selector={"app": "minting-worker", "version": "blue"})
    pods = [each for (resource, _, _), each in api.objects.items() if resource == "pods"]
    for each, colour in zip(pods, ("blue", "green", "green"), strict=False):
        each["metadata"]["labels"]["version"] = colour
    return PatchServiceSelector(namespace="production", service="minting", selector={"version": "green"})


def _a_pod(api: ApiServer) -> str:
    return sorted(name for resource, _, name in api.objects if resource == "pods")[0]


_MAKE: dict[str, Make] = {
    "scale": lambda api: Scale.model_validate({**WHERE, "at_least": 5, "max": 10}),
    "rollout_restart": lambda api: RolloutRestart(**WHERE),
    "rollout_undo": _rolled,
    "rollout_pause": lambda api: RolloutPause(**WHERE),
    "rollout_resume": _paused,
    "set_env": lambda api: SetEnv(**WHERE, env={"MINT_CONCURRENCY": "2"}),
    "set_image": lambda api: SetImage(**WHERE, image="minting:1.3"),
    "set_resources": lambda api: SetResources(**WHERE, requests={"cpu": "1"}),
    "patch_service_selector": _switched,
    "delete_pod": lambda api: DeletePod(namespace="production", pod=_a_pod(api)),
    "cordon": lambda api: Cordon(node="node-1"),
    "uncordon": _closed,
    "job_from_cronjob": lambda api: JobFromCronjob(namespace="production", cronjob="migrate"),
    "exec": lambda api: Exec(namespace="production", pod=_a_pod(api), command="reload"),
}


def _stage(name: str, make: Make) -> Callable[[Path], AbstractAsyncContextManager[Stage]]:
    @asynccontextmanager
    async def stage(directory: Path) -> AsyncIterator[Stage]:
        async with api_server() as api:
            furnish(api)
            action = make(api)
            permit = {"actions": [f"kubernetes.{name}"], **{kind: ["*"] for kind in KubernetesTarget.lists}}
            target = KubernetesTarget.model_validate(
                {
                    "kubeconfig": api.kubeconfig(directory),
                    "permit": permit,
                    "commands": {"reload": {"argv": ["nginx", "-s", "reload"]}},
                }
            )
            told = 0

            def left() -> list[Any]:
                """The calls that change something, as the server saw them."""
                nonlocal told
                new, told = api.writes()[told:], len(api.writes())
                return [[c.verb, c.resource, c.namespace, c.name, dict(c.query), c.content_type, c.body] for c in new]

            yield Stage(
                action=action,
                target=target,
                effects=lambda: len(api.writes()),
                converges=name != "exec",
                left=left,
            )
            await target.close()

    return stage


STAGES = {f"kubernetes.{name}": _stage(name, make) for name, make in _MAKE.items()}
