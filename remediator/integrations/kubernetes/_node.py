"""What cordoning and uncordoning share: whether a node takes new pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Happened
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._shape import Metadata, Shape
from remediator.integrations.kubernetes._thing import Name, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget


class NodeSpec(Shape):
    """Whether it takes new pods."""

    unschedulable: bool = False


class Node(Shape):
    """A node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()


class CordonOrUncordon(Action[KubernetesTarget]):
    """An action on one node."""

    node: Name = Field(description="The node's name.")

    @property
    def thing(self) -> Thing:
        """The node."""
        return Thing("node", "", self.node)

    def needs(self) -> Mapping[str, str]:
        """The node must be permitted."""
        return {"nodes": self.node}

    def subject(self) -> str:
        """``node/<name>``."""
        return str(self.thing)

    def grants(self) -> list[Grant]:
        """Reading and patching the node."""
        return grants_on(self.thing, "get", "patch")

    async def change_to(self, target: KubernetesTarget, closed: bool, word: str) -> Change:
        """The change that closes or opens the node. Raises TemporaryError, PermanentError."""
        found = await (await target.cluster()).get(self.thing, Node)
        return Change(
            summary=f"{word} {self.thing}",
            before={"unschedulable": found.spec.unschedulable},
            after={"unschedulable": closed},
            volatile=version_of(self.thing, found),
        )

    async def set_flag(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Close or open it, if it still is as before. Raises TemporaryError, PermanentError, Unanswered."""
        closed = bool(change.after["unschedulable"])

        def body(version: str) -> dict[str, Any]:
            return {
                "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: context.key}},
                "spec": {"unschedulable": closed or None},
            }

        await patch_same(
            await target.cluster(),
            self.thing,
            Node,
            change,
            body,
            context,
            lambda found: {"unschedulable": found.spec.unschedulable},
        )

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when it is as wanted. Raises PermanentError once somebody has set it otherwise."""
        found = await (await target.cluster()).get(self.thing, Node)
        if found.spec.unschedulable != change.after["unschedulable"]:
            raise PermanentError(f"somebody else has changed {self.thing}", reason="changed")

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes or no: the node is as after or as before."""
        found = await (await target.cluster()).get(self.thing, Node)
        return Happened.YES if found.spec.unschedulable == change.after["unschedulable"] else Happened.NO
