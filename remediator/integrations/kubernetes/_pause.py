"""What pausing and resuming a rollout share: one flag of a deployment, set only if it still is the other way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Happened
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget


class PauseOrResume(Action[KubernetesTarget]):
    """An action on the pause of one deployment."""

    namespace: Namespace = Field(description="The deployment's namespace.")
    deployment: Name = Field(description="The deployment's name.")

    @property
    def thing(self) -> Thing:
        """The deployment."""
        return Thing("deployment", self.namespace, self.deployment)

    def needs(self) -> Mapping[str, str]:
        """Namespace and deployment must be permitted."""
        return {"namespaces": self.namespace, "deployments": self.deployment}

    def subject(self) -> str:
        """``deployment/<namespace>/<name>``."""
        return str(self.thing)

    def grants(self) -> list[Grant]:
        """Reading and patching the deployment."""
        return grants_on(self.thing, "get", "patch")

    async def change_to(self, target: KubernetesTarget, paused: bool, word: str) -> Change:
        """The change that sets the flag. Raises TemporaryError, PermanentError."""
        found = await (await target.cluster()).get(self.thing, Workload)
        return Change(
            summary=f"{word} the rollouts of {self.thing}",
            before={"paused": found.spec.paused},
            after={"paused": paused},
            volatile=version_of(self.thing, found),
        )

    async def set_flag(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Set the flag, if it still is as before. Raises TemporaryError, PermanentError, Unanswered."""
        paused = bool(change.after["paused"])

        def body(version: str) -> dict[str, Any]:
            return {
                "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: context.key}},
                # null and not false: an object without the flag and one with false must not look different.
                "spec": {"paused": paused or None},
            }

        await patch_same(
            await target.cluster(),
            self.thing,
            Workload,
            change,
            body,
            context,
            lambda found: {"paused": found.spec.paused},
        )

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the flag is as wanted. Raises PermanentError once somebody has set it otherwise."""
        found = await (await target.cluster()).get(self.thing, Workload)
        if found.spec.paused != change.after["paused"]:
            raise PermanentError(f"somebody else has changed the pause of {self.thing}", reason="changed")

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes or no: the flag is the one of after or the one of before."""
        found = await (await target.cluster()).get(self.thing, Workload)
        return Happened.YES if found.spec.paused == change.after["paused"] else Happened.NO
