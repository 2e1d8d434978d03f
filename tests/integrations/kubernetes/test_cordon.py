"""Tests of the action kubernetes.cordon."""

from __future__ import annotations

import pytest

from remediator.errors import PermanentError
from remediator.integrations.kubernetes.cordon import Cordon
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.integrations.kubernetes.uncordon import Uncordon
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import acting


async def test_a_node_is_closed_and_opened_again(api: ApiServer, target: KubernetesTarget) -> None:
    """It takes no new pods; the inverse is to uncordon it, and leaves the node as it was."""
    api.put("nodes", "node-1", "", spec={"podCIDR": "10.0.0.0/24"})
    change = await carried_out(Cordon(node="node-1"), target)
    assert api.get("nodes", "node-1", "")["spec"] == {"podCIDR": "10.0.0.0/24", "unschedulable": True}
    inverse = stored(Cordon(node="node-1").inverse(change))
    assert isinstance(inverse, Uncordon)
    await carried_out(inverse, target)
    assert api.get("nodes", "node-1", "")["spec"] == {"podCIDR": "10.0.0.0/24"}


async def test_not_one_node_after_the_other(api: ApiServer, target: KubernetesTarget) -> None:
    """When as many nodes are closed as the rule allows, whoever closed them, no further one is."""
    for number in range(4):
        api.put("nodes", f"node-{number}", "", spec={"unschedulable": True} if number == 3 else {})
    with pytest.raises(PermanentError, match="node-3") as caught:
        await shown(Cordon(node="node-0"), target)
    assert caught.value.reason == "too_many"
    await carried_out(Cordon(node="node-0", max_cordoned=2), target)
    assert (await shown(Cordon(node="node-3"), target)).empty


async def test_somebody_who_opens_it_again_is_noticed(api: ApiServer, target: KubernetesTarget) -> None:
    """If a person uncordons the node at once, the step says so instead of success."""
    api.put("nodes", "node-1", "", spec={})
    change = await shown(Cordon(node="node-1"), target)
    await Cordon(node="node-1").apply(target, change, acting())
    api.change("nodes", "node-1", "", unschedulable=False)
    with pytest.raises(PermanentError) as caught:
        await Cordon(node="node-1").verify(target, change, acting())
    assert caught.value.reason == "changed"
    assert Cordon(node="node-1").needs() == {"nodes": "node-1"}
    assert Cordon(node="node-1").subject() == "node/node-1"
