"""Tests of the action kubernetes.rollout_resume."""

from __future__ import annotations

from remediator.integrations.kubernetes.rollout_pause import RolloutPause
from remediator.integrations.kubernetes.rollout_resume import RolloutResume
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored

RESUME = RolloutResume(namespace="production", deployment="minting-worker")


async def test_a_paused_deployment_goes_on(api: ApiServer, target: KubernetesTarget) -> None:
    """The flag goes away as if it had never been there; what is not paused needs nothing; the inverse pauses again."""
    assert (await shown(RESUME, target)).empty
    api.change("deployments", "minting-worker", paused=True)
    change = await carried_out(RESUME, target)
    assert "paused" not in api.get("deployments", "minting-worker")["spec"]
    inverse = stored(RESUME.inverse(change))
    assert isinstance(inverse, RolloutPause)
    await carried_out(inverse, target)
    assert api.get("deployments", "minting-worker")["spec"]["paused"]
