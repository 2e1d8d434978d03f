"""Tests of the action kubernetes.rollout_restart."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.rollout_restart import RolloutRestart
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown
from tests.integrations.support import HandClock, acting

RESTART = RolloutRestart(namespace="production", deployment="minting-worker")


def _pods(api: ApiServer, prefix: str) -> set[str]:
    api.act()
    return {f["metadata"]["uid"] for key, f in api.objects.items() if key[0] == "pods" and key[2].startswith(prefix)}


@pytest.mark.parametrize(("kind", "name"), [("deployment", "minting-worker"), ("statefulset", "queue")])
async def test_every_pod_is_replaced(
    api: ApiServer, target: KubernetesTarget, clock: HandClock, kind: str, name: str
) -> None:
    """All pods are new afterwards, and the annotation is the one of kubectl, with the time and the step."""
    before = _pods(api, name)
    action = RolloutRestart.model_validate({"namespace": "production", kind: name})
    await carried_out(action, target, clock)
    assert len(before) == len(_pods(api, name)) == 3
    assert not before & _pods(api, name)
    notes: dict[str, Any] = api.get(f"{kind}s", name)["spec"]["template"]["metadata"]["annotations"]
    assert notes == {
        "kubectl.kubernetes.io/restartedAt": "2027-01-15T08:00:00.000000Z",
        "remediator.io/restarted-by": "run-1.step0",
    }


async def test_one_step_restarts_once(api: ApiServer, target: KubernetesTarget) -> None:
    """Whoever takes the step over finds its mark and does nothing; another run may restart again."""
    await carried_out(RESTART, target)
    assert (await shown(RESTART, target)).empty
    context = acting()
    other = type(context)(
        run_id="run-2", step="step0", attempt=1, key="run-2.step0", clock=context.clock, deadline=context.deadline
    )
    assert not (await RESTART.diff(target, other)).empty


async def test_what_is_paused_is_not_restarted(api: ApiServer, target: KubernetesTarget) -> None:
    """A restart of something paused would wait for ever."""
    api.change("deployments", "minting-worker", paused=True)
    with pytest.raises(PermanentError) as caught:
        await shown(RESTART, target)
    assert caught.value.reason == "paused"


async def test_what_waits_for_deletion_is_not_restarted(api: ApiServer, target: KubernetesTarget) -> None:
    """A stateful set with OnDelete replaces no pod by itself, so a restart of it would only look like one."""
    api.change("statefulsets", "queue", updateStrategy={"type": "OnDelete"})
    with pytest.raises(PermanentError) as caught:
        await shown(RolloutRestart(namespace="production", statefulset="queue"), target)
    assert caught.value.reason == "on_delete"


async def test_git_does_not_mind_a_restart(api: ApiServer, target: KubernetesTarget) -> None:
    """A restart is no drift: the annotation is in nobody's Git."""
    api.get("deployments", "minting-worker")["metadata"]["labels"] = {"argocd.argoproj.io/instance": "minting"}
    assert not (await shown(RESTART, target)).empty


async def test_a_restart_that_is_not_ready_is_waited_for(api: ApiServer, target: KubernetesTarget) -> None:
    """Until the new pods are there it is temporary."""
    api.settle = 60
    change = await shown(RESTART, target)
    await RESTART.apply(target, change, acting())
    with pytest.raises(TemporaryError) as caught:
        await RESTART.verify(target, change, acting())
    assert caught.value.reason == "not_observed"
    assert RESTART.inverse(change) is None
