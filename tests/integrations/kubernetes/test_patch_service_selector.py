"""Tests of the action kubernetes.patch_service_selector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.patch_service_selector import PatchServiceSelector
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import HandClock, acting


@pytest.fixture(autouse=True)
async def colours(api: ApiServer) -> AsyncIterator[None]:
    """A blue and a green deployment behind one service, which sends its traffic to blue."""
    for colour in ("blue", "green"):
        labels = {"app": "minting", "version": colour}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "minting:1"}]}}
        api.add("deployments", f"minting-{colour}", 2, selector={"matchLabels": labels}, template=template)
    api.put("services", "minting", spec={"selector": {"app": "minting", "version": "blue"}, "ports": [{"port": 80}]})
    yield


def _to(colour: str, **parameters: Any) -> PatchServiceSelector:
    where = {"namespace": "production", "service": "minting"}
    return PatchServiceSelector.model_validate({**where, "selector": {"version": colour}, **parameters})


async def test_green_and_back_to_blue(api: ApiServer, target: KubernetesTarget) -> None:
    """Only the named label changes, ports and other labels stay, and it can be taken back."""
    change = await carried_out(_to("green"), target)
    assert change.summary == "send the traffic of service/production/minting to version=green instead of blue"
    found = api.get("services", "minting")["spec"]
    assert found == {"selector": {"app": "minting", "version": "green"}, "ports": [{"port": 80}]}
    await carried_out(stored(_to("green").inverse(change)), target)
    assert api.get("services", "minting")["spec"]["selector"]["version"] == "blue"


async def test_traffic_goes_only_where_somebody_takes_it(api: ApiServer, target: KubernetesTarget) -> None:
    """A colour without enough ready pods gets no traffic, and a label that nobody carries neither."""
    assert not (await shown(_to("green", min_ready=2), target)).empty
    for action in (_to("green", min_ready=3), _to("red")):
        with pytest.raises(PermanentError) as caught:
            await shown(action, target)
        assert caught.value.reason == "no_ready_pods"
    api.change("deployments", "minting-green", replicas=0)
    with pytest.raises(PermanentError, match="0 pods"):
        await shown(_to("green"), target)
    assert api.writes() == []


async def test_pods_that_vanish_afterwards_are_seen(api: ApiServer, target: KubernetesTarget) -> None:
    """After the switch the pods are looked at again, and so is the selector."""
    change = await shown(_to("green"), target)
    await _to("green").apply(target, change, acting())
    api.change("deployments", "minting-green", replicas=0)
    with pytest.raises(PermanentError) as caught:
        await _to("green").verify(target, change, acting())
    assert caught.value.reason == "no_ready_pods"


async def test_a_label_can_be_taken_away_but_not_the_last_one(api: ApiServer, target: KubernetesTarget) -> None:
    """null takes a label away; a service without any selector would choose nothing."""
    await carried_out(_to("blue", selector={"version": None}), target)
    assert api.get("services", "minting")["spec"]["selector"] == {"app": "minting"}
    with pytest.raises(PermanentError) as caught:
        await shown(_to("blue", selector={"app": None}), target)
    assert caught.value.reason == "no_selector"


async def test_a_service_in_git(api: ApiServer, target: KubernetesTarget, clock: HandClock) -> None:
    """Argo CD would send the traffic back: refused, or watched."""
    api.get("services", "minting")["metadata"]["annotations"] = {
        "argocd.argoproj.io/tracking-id": "minting:/Service:production/minting"
    }
    with pytest.raises(PermanentError, match="Argo CD application minting,"):
        await shown(_to("green"), target)
    action = _to("green", allow_drift=True)
    change = await shown(action, target, clock)
    await action.apply(target, change, acting(clock))
    with pytest.raises(TemporaryError):
        await action.verify(target, change, acting(clock))
    clock.at += 181
    await action.verify(target, change, acting(clock))


@pytest.mark.parametrize("selector", [{}, {"a b": "x"}, {"version": "a,b=c"}, {"version": "-x"}, {"a=b": "x"}])
def test_only_labels(selector: dict[str, str]) -> None:
    """What is no label never becomes part of a selector."""
    with pytest.raises(ValidationError):
        _to("blue", selector=selector)
