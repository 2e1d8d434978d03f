"""``kubernetes.set_resources``: give one container of a deployment or stateful set more or less CPU and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from remediator.action import ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._workload import OnTemplate
from remediator.integrations.kubernetes.target import KubernetesTarget

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Amounts = dict[Literal["cpu", "memory"], Quantity | None]


class SetResources(OnTemplate):
    """Sets requests and limits of a container, only if they are unchanged since they were looked at, and waits for the
    rollout.

    Whether quotas and limit ranges allow them is asked before anybody is asked to approve.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"requests", "limits", "allow_drift", "drift_after"})

    requests: Amounts = Field(default_factory=dict, description="What it is sure to get, such as `{cpu: 500m}`.")
    limits: Amounts = Field(default_factory=dict, description="What it never exceeds, such as `{memory: 1Gi}`.")
    only_from: dict[Literal["requests", "limits"], Amounts] | None = Field(
        default=None, description="Act only if these are the amounts now; used to take a change back."
    )

    @model_validator(mode="after")
    def _something(self) -> SetResources:
        if not self.requests and not self.limits:
            raise ValueError("write requests, limits or both")
        return self

    def read(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """The amounts now; null for one that is not set."""
        resources = container.get("resources") or {}
        return {
            kind: {name: (resources.get(kind) or {}).get(name) for name in sorted(getattr(self, kind))}
            for kind in ("requests", "limits")
        }

    def wanted(self, now: dict[str, Any]) -> dict[str, Any]:
        """The other amounts."""
        wish = {
            kind: {name: getattr(self, kind)[name] for name in sorted(getattr(self, kind))}
            for kind in ("requests", "limits")
        }
        if now != wish and self.only_from is not None and now != self.only_from:
            raise PermanentError(
                f"the resources of {self.thing} are no longer those that this change is made for: somebody else has "
                "changed them",
                reason="changed",
            )
        return wish

    def patch(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """The amounts; null takes one away."""
        return {"resources": {kind: amounts for kind, amounts in after.items() if kind != "container" and amounts}}

    def told(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """Every amount that changes."""
        parts = [
            f"{kind}.{name}={value or 'nothing'} instead of {before[kind][name] or 'nothing'}"
            for kind in ("requests", "limits")
            for name, value in after[kind].items()
            if value != before[kind][name]
        ]
        return f"set {', '.join(parts) or 'nothing'} in container {before['container']}"

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the amounts, if they still are those of before."""
        found = await self.apply_patch(target, change, context)
        return Outcome(
            summary=f"{self.thing} gets other resources",
            data={**dict(change.after), "generation": found.metadata.generation},
        )

    def inverse(self, change: Change) -> SetResources:
        """Back to the amounts of before, only if those of after are still there."""
        return SetResources.model_validate(
            {
                **self.where(),
                "container": change.before["container"],
                "requests": change.before["requests"],
                "limits": change.before["limits"],
                "only_from": {"requests": change.after["requests"], "limits": change.after["limits"]},
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the amounts are those of after, no if those of before, else unknown."""
        return await self.happened(target, change)
