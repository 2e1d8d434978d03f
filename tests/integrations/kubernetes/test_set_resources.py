"""Tests of the action kubernetes.set_resources."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.set_resources import SetResources
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored


def _set(**parameters: Any) -> SetResources:
    return SetResources.model_validate({"namespace": "production", "deployment": "minting-worker", **parameters})


def _resources(api: ApiServer) -> Any:
    return api.get("deployments", "minting-worker")["spec"]["template"]["spec"]["containers"][0]["resources"]


async def test_more_resources_and_back(api: ApiServer, target: KubernetesTarget) -> None:
    """The amounts of the runbook are set, others stay, and the way back takes away what was not there."""
    await carried_out(_set(requests={"cpu": "250m"}), target)
    action = _set(requests={"memory": "512Mi", "cpu": "500m"}, limits={"memory": "1Gi", "cpu": "1000m"})
    change = await carried_out(action, target)
    assert "requests.cpu=500m instead of 250m" in change.summary
    assert _resources(api) == {
        "requests": {"memory": "512Mi", "cpu": "500m"},
        "limits": {"memory": "1Gi", "cpu": "1000m"},
    }
    await carried_out(stored(action.inverse(change)), target)
    assert _resources(api) == {"requests": {"cpu": "250m"}}


async def test_what_the_cluster_would_refuse_is_known_before_approval(
    api: ApiServer, target: KubernetesTarget
) -> None:
    """A request above the limit is refused by a dry run, with the words of the API server, and nothing is changed."""
    await carried_out(_set(limits={"memory": "1Gi"}), target)
    api.calls.clear()
    with pytest.raises(PermanentError, match=r"change invalid .*less than or equal to memory limit") as caught:
        await shown(_set(requests={"memory": "2Gi"}), target)
    assert caught.value.reason == "status_422"
    assert api.writes() == []


@pytest.mark.parametrize(
    "parameters", [{}, {"requests": {"disk": "1Gi"}}, {"limits": {"cpu": "-1"}}, {"limits": {"memory": "1 Gi"}}]
)
def test_only_amounts(parameters: dict[str, Any]) -> None:
    """Nothing, unknown resources and what is no quantity are refused at load."""
    with pytest.raises(ValidationError):
        _set(**parameters)
