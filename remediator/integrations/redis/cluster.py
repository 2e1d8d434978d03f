"""``redis.cluster``: whether a Redis Cluster serves all slots, and which replica could take over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from remediator.errors import ActionError
from remediator.integrations.redis._cluster import SLOTS, Node
from remediator.integrations.redis.target import RedisTarget
from remediator.probe import Probe, ProbeContext

_AT_ONCE = 8


class Cluster(Probe[RedisTarget]):
    """Reads the cluster's state and slots, and every node's role, replication offset and fitness for a fail-over."""

    def needs(self) -> Mapping[str, str]:
        """Nothing beyond the probe itself."""
        return {}

    async def read(self, target: RedisTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The cluster as evidence. Raises TemporaryError, and PermanentError where there is no cluster."""
        nodes = await target.nodes()
        gate = asyncio.Semaphore(_AT_ONCE)
        replication = await asyncio.gather(*(_replication(target, node, nodes, gate) for node in nodes))
        seen = {node.id: info for node, info in zip(nodes, replication, strict=True)}
        covered = sum(node.size for node in nodes if node.primary and not node.failed)
        return {
            "state": await _state(target, nodes, seen),
            "slots_covered": covered,
            "slots_missing": SLOTS - covered,
            "known_nodes": len(nodes),
            "failed_nodes": sum(node.failed or seen[node.id] is None for node in nodes),
            "nodes": [_described(node, nodes, seen) for node in nodes],
        }


async def _replication(
    target: RedisTarget, node: Node, nodes: Sequence[Node], gate: asyncio.Semaphore
) -> dict[str, Any] | None:
    """INFO replication of one node; None if it does not answer."""
    if {"noaddr", "handshake"} & set(node.flags):
        return None
    async with gate:
        try:
            async with target.server(node=node.address, known=nodes) as server:
                return await server.info("replication")
        except ActionError:
            return None


async def _state(target: RedisTarget, nodes: Sequence[Node], seen: Mapping[str, Any]) -> str:
    """``ok`` only if every node that answers says so; nodes on the two sides of a broken network disagree."""
    for node in nodes:
        if seen[node.id] is None:
            continue
        async with target.server(node=node.address, known=nodes) as server:
            text = (await server.ask("CLUSTER", "INFO")).decode()
        if "cluster_state:ok" not in text.split():
            return "fail"
    return "ok"


def _described(node: Node, nodes: Sequence[Node], seen: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    info = seen[node.id]
    primary = next((each for each in nodes if each.id == node.master), None)
    why = obstacle(node, primary, info)
    described: dict[str, Any] = {
        "node": node.address,
        "id": node.id,
        "role": "primary" if node.primary else "replica",
        "flags": list(node.flags),
        "primary": primary.address if primary else "",
        "slots": node.size,
        "answers": info is not None,
        "eligible": not why,
        "why": why,
    }
    lag = lag_bytes(info, seen.get(node.master))
    return described if lag is None else {**described, "lag_bytes": lag}


def obstacle(node: Node, primary: Node | None, info: Mapping[str, Any] | None) -> str:
    """Why a node cannot take over from its primary without force; empty if it can."""
    if node.primary:
        return "it is a primary"
    if node.failed or info is None:
        return "it does not answer"
    if primary is None or primary.failed or info.get("master_link_status") != "up":
        return "it has no connection to its primary"
    if info.get("master_sync_in_progress"):
        return "it is still copying its primary"
    return ""


def lag_bytes(replica: Mapping[str, Any] | None, primary: Mapping[str, Any] | None) -> int | None:
    """How many bytes of the primary's stream the replica has not got; None where one of them was not asked."""
    if replica is None or primary is None or "slave_repl_offset" not in replica:
        return None
    return max(0, int(primary["master_repl_offset"]) - int(replica["slave_repl_offset"]))
