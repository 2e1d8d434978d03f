"""``redis.cluster_failover``: let a replica take over from its primary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._size import Size
from remediator.integrations.redis._cluster import Node
from remediator.integrations.redis._names import Address
from remediator.integrations.redis.cluster import lag_bytes, obstacle
from remediator.integrations.redis.target import RedisTarget


class ClusterFailover(Action[RedisTarget]):
    """Sends CLUSTER FAILOVER to a replica that is connected and close behind, so that no write is lost.

    With ``force`` it does so also when the primary is gone; the other primaries still have to agree (FORCE, never
    TAKEOVER), and the replica must have got at least as far as every other replica that answers.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"max_lag", "force"})

    node: Address = Field(description="`host:port` of the replica that is to take over, as the cluster calls it.")
    max_lag: Size = Field(
        default=1024 * 1024, ge=0, description="How far behind its primary the replica may be, in bytes."
    )
    force: bool = Field(
        default=False, description="Also when its primary does not answer: what it had not sent is lost."
    )
    only_from: Address | None = Field(
        default=None, description="Act only if this is its primary now; taking a change back uses it."
    )

    def needs_approval(self, target: RedisTarget) -> bool:
        """True with force: writes may be lost."""
        return self.force

    def needs(self) -> Mapping[str, str]:
        """The node must be permitted."""
        return {"nodes": self.node}

    def subject(self) -> str:
        """The whole cluster: two fail-overs at once are one too many."""
        return "cluster"

    async def diff(self, target: RedisTarget, context: ActionContext) -> Change:
        """Who serves the slots now and who would. Raises PermanentError if the replica cannot or should not."""
        nodes = await target.nodes()
        node = self._find(nodes)
        if node.primary:
            # Somebody else may have moved it; who it took over from cannot be seen any more.
            return self._change(node.address, node.address, "it is the primary already")
        primary = next((each for each in nodes if each.id == node.master), None)
        if primary is None:
            raise TemporaryError(f"{self.node} has no primary at present", reason="no_primary")
        if self.only_from is not None and primary.address != self.only_from:
            raise PermanentError(
                f"the primary of {self.node} is {primary.address} and not {self.only_from}", reason="changed"
            )
        note = await self._checked(target, nodes, node, primary)
        return self._change(primary.address, node.address, note)

    def _change(self, before: str, after: str, note: str) -> Change:
        forced = " with force" if self.force else ""
        return Change(
            summary=f"{after} takes over from {before}{forced}" if before != after else f"{after}: {note}",
            before={"primary": before},
            after={"primary": after},
            volatile={"note": note},
        )

    def _find(self, nodes: list[Node]) -> Node:
        for node in nodes:
            if node.address == self.node:
                return node
        raise PermanentError(f"{self.node} is no node of the cluster", reason="node")

    async def _checked(self, target: RedisTarget, nodes: list[Node], node: Node, primary: Node) -> str:
        """What was found about the offsets. Raises PermanentError, TemporaryError."""
        own = await _info(target, node, nodes)
        if own is None:
            raise TemporaryError(f"{node.address} does not answer", reason="unanswered")
        why = obstacle(node, primary, own)
        if not why:
            lag = lag_bytes(own, await _info(target, primary, nodes))
            if lag is None:
                raise TemporaryError(f"{primary.address} does not say how far it is", reason="unanswered")
            if lag > self.max_lag:
                raise TemporaryError(
                    f"{node.address} is {lag} bytes behind its primary, more than {self.max_lag}", reason="lag"
                )
            return f"{lag} bytes behind"
        if not self.force:
            raise PermanentError(f"{node.address} cannot take over: {why}", reason="not_eligible")
        return await self._furthest(target, nodes, node, own)

    async def _furthest(self, target: RedisTarget, nodes: list[Node], node: Node, own: Mapping[str, Any]) -> str:
        mine = int(own.get("slave_repl_offset", 0))
        for other in nodes:
            if other.master != node.master or other.id == node.id:
                continue
            info = await _info(target, other, nodes)
            if info is not None and int(info.get("slave_repl_offset", 0)) > mine:
                raise PermanentError(
                    f"{other.address} has got further than {node.address}; let it take over", reason="behind"
                )
        return "no other replica that answers has got further"

    async def apply(self, target: RedisTarget, change: Change, context: ActionContext) -> Outcome:
        """Send it. Raises Unanswered (unknown) when no answer came."""
        words = ("CLUSTER", "FAILOVER", *(("FORCE",) if self.force else ()))
        async with target.server(node=self.node) as server:
            await server.act(context.check_deadline, *words)
        return Outcome(summary=f"{self.node} was told to take over", data=dict(change.after))

    async def verify(self, target: RedisTarget, change: Change, context: ActionContext) -> None:
        """Returns when the node serves slots and calls the cluster ok. Raises TemporaryError until then."""
        async with target.server(node=self.node) as server:
            role = (await server.ask("ROLE"))[0].decode()
            state = (await server.ask("CLUSTER", "INFO")).decode().split()
        if role != "master":
            raise TemporaryError(f"{self.node} is still a replica", reason="not_yet")
        if "cluster_state:ok" not in state:
            raise TemporaryError("the cluster is not ok yet", reason="not_yet")
        if not self._find(await target.nodes()).size:
            raise TemporaryError(f"{self.node} serves no slots yet", reason="not_yet")

    def inverse(self, change: Change) -> ClusterFailover | None:
        """The former primary takes over again, if it is a replica of this node by then."""
        before = str(change.before["primary"])
        if change.empty or before.startswith(":"):
            return None  # It had no address any more when it was taken over from.
        return ClusterFailover(node=before, max_lag=self.max_lag, only_from=self.node)

    async def reconcile(self, target: RedisTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the node is a primary, no if it still is a replica of the former one, else unknown."""
        nodes = await target.nodes()
        node = self._find(nodes)
        if node.primary:
            return Happened.YES
        primary = next((each.address for each in nodes if each.id == node.master), "")
        return Happened.NO if primary == change.before["primary"] else Happened.UNKNOWN


async def _info(target: RedisTarget, node: Node, nodes: list[Node]) -> dict[str, Any] | None:
    try:
        async with target.server(node=node.address, known=nodes) as server:
            return await server.info("replication")
    except ActionError:
        return None
