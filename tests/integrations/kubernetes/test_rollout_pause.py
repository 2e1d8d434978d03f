"""Tests of the action kubernetes.rollout_pause."""

from __future__ import annotations

import pytest

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.rollout_pause import RolloutPause
from remediator.integrations.kubernetes.rollout_resume import RolloutResume
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import acting

PAUSE = RolloutPause(namespace="production", deployment="minting-worker")


async def test_a_pause_stops_rollouts_and_resuming_goes_on(api: ApiServer, target: KubernetesTarget) -> None:
    """While it is paused another image does not reach a pod; the inverse is to resume, and then it does."""
    change = await carried_out(PAUSE, target)
    api.roll("minting-worker", "minting:1.3")
    assert {each["spec"]["containers"][0]["image"] for each in _pods(api)} == {"minting:1.2"}
    inverse = stored(PAUSE.inverse(change))
    assert isinstance(inverse, RolloutResume)
    await carried_out(inverse, target)
    assert {each["spec"]["containers"][0]["image"] for each in _pods(api)} == {"minting:1.3"}


def _pods(api: ApiServer) -> list[dict[str, dict[str, list[dict[str, str]]]]]:
    api.act()
    return [each for key, each in api.objects.items() if key[0] == "pods" and key[2].startswith("minting")]


async def test_somebody_who_resumes_it_is_noticed(api: ApiServer, target: KubernetesTarget) -> None:
    """If the pause is taken away at once, the step says so instead of success; a pause that is there needs nothing."""
    change = await shown(PAUSE, target)
    await PAUSE.apply(target, change, acting())
    assert (await shown(PAUSE, target)).empty
    api.change("deployments", "minting-worker", paused=False)
    with pytest.raises(PermanentError) as caught:
        await PAUSE.verify(target, change, acting())
    assert caught.value.reason == "changed"
