"""Tests of the action kubernetes.uncordon."""

from __future__ import annotations

from remediator.integrations.kubernetes.cordon import Cordon
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.integrations.kubernetes.uncordon import Uncordon
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown, stored


async def test_a_closed_node_is_opened(api: ApiServer, target: KubernetesTarget) -> None:
    """It takes pods again; an open node needs nothing; the inverse closes it again."""
    api.put("nodes", "node-1", "", spec={"unschedulable": True})
    change = await carried_out(Uncordon(node="node-1"), target)
    assert api.get("nodes", "node-1", "")["spec"] == {}
    assert (await shown(Uncordon(node="node-1"), target)).empty
    inverse = stored(Uncordon(node="node-1").inverse(change))
    assert isinstance(inverse, Cordon)
    await carried_out(inverse, target)
    assert api.get("nodes", "node-1", "")["spec"] == {"unschedulable": True}
