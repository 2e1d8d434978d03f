"""``kubernetes.scale``: change how many replicas a deployment or stateful set has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._rollout import progress
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes._wanted import Wish
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

Replicas = Annotated[int, Field(ge=0, le=100_000)]


class Scale(Action[KubernetesTarget]):
    """Sets the replicas through the scale subresource, only if the object is unchanged since it was looked at.

    Exactly one of `at_least`, `at_most`, `by` and `exact` says how many. Whatever can raise needs `max`; nothing
    goes below `min`, which is 1 unless written. An object that an autoscaler owns is left alone.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"max", "min", "allow_down", "from_zero"})

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment to scale.")
    statefulset: Name | None = Field(default=None, description="The stateful set to scale.")
    at_least: Replicas | None = Field(default=None, description="Raise to this number; never lowers.")
    at_most: Replicas | None = Field(default=None, description="Lower to this number; never raises.")
    by: Annotated[int, Field(ge=-100_000, le=100_000)] | None = Field(
        default=None,
        description="Raise (or, if negative, lower) by this many. The number that comes of it is fixed when the "
        "change is shown.",
    )
    exact: Replicas | None = Field(default=None, description="Set to this number; lowers only with `allow_down: true`.")
    max: Replicas | None = Field(default=None, description="Never raise above this; needed to raise at all.")
    min: Replicas = Field(default=1, description="Never lower below this; 0 must be written out.")
    allow_down: bool = Field(default=False, description="Let `exact` lower.")
    from_zero: bool = Field(default=False, description="Raise also what has been scaled to 0.")
    only_from: Replicas | None = Field(
        default=None, description="Act only if there are exactly this many now; used to take a change back."
    )

    @model_validator(mode="after")
    def _one_object(self) -> Scale:
        if (self.deployment is None) == (self.statefulset is None):
            raise ValueError("write deployment or statefulset, exactly one of them")
        return self

    @model_validator(mode="after")
    def _one_number(self) -> Scale:
        given = [n for n in ("at_least", "at_most", "by", "exact") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("write exactly one of at_least, at_most, by and exact")
        number: int = getattr(self, given[0])
        if given[0] == "by" and number == 0:
            raise ValueError("by must not be 0")
        if given[0] in ("at_least", "exact") or (given[0] == "by" and number > 0):
            self._check_raise(given[0], number)
        if given[0] in ("at_most", "exact") and number < self.min:
            raise ValueError(f"{given[0]}: {number} is below min: {self.min}; to go that low, write min: {number}")
        if self.allow_down and given[0] != "exact":
            raise ValueError("allow_down goes with exact; at_most and a negative by always may lower")
        return self

    def _check_raise(self, name: str, number: int) -> None:
        if self.max is None:
            raise ValueError(f"{name} can raise, so it needs a limit: write max, such as max: {max(number, 1) * 2}")
        if name != "by" and number > self.max:
            raise ValueError(f"{name}: {number} is above max: {self.max}")
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is above max: {self.max}")

    @property
    def _thing(self) -> Thing:
        if self.deployment is not None:
            return Thing("deployment", self.namespace, self.deployment)
        return Thing("statefulset", self.namespace, self.statefulset or "")

    def needs(self) -> Mapping[str, str]:
        """Namespace and object must be permitted."""
        return {"namespaces": self.namespace, self._thing.resource: self._thing.name}

    def subject(self) -> str:
        """``deployment/<namespace>/<name>``."""
        return str(self._thing)

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Replicas now and wanted. Raises PermanentError where an autoscaler owns the object."""
        cluster, thing = await target.cluster(), self._thing
        scale = await cluster.read_scale(thing)
        current = (scale.spec.replicas if scale.spec else None) or 0
        version = (scale.metadata.resource_version if scale.metadata else None) or ""
        if not version:
            raise TemporaryError(f"the API server gave no resourceVersion of {thing}", reason="malformed")
        wanted = self._wish().replicas(current)
        summary = f"scale {thing} from {current} to {wanted}"
        if wanted != current and not await self._autoscaler_checked(cluster):
            summary += " (HPA not checked: not allowed to list horizontalpodautoscalers)"
        return Change(
            summary=summary,
            before={"replicas": current},
            after={"replicas": wanted},
            volatile={"resource_version": version},
        )

    def _wish(self) -> Wish:
        return Wish(
            at_least=self.at_least,
            at_most=self.at_most,
            by=self.by,
            exact=self.exact,
            floor=self.min,
            ceiling=self.max,
            allow_down=self.allow_down or self.exact is None,
            from_zero=self.from_zero,
            only_from=self.only_from,
        )

    async def _autoscaler_checked(self, cluster: Cluster) -> bool:
        """False if it may not be looked up. Raises PermanentError if an autoscaler targets the object."""
        thing = self._thing
        try:
            autoscalers = await cluster.autoscalers(thing.namespace)
        except PermanentError as error:
            if error.reason == "status_403":
                return False
            raise
        for autoscaler in autoscalers:
            reference = autoscaler.spec.scale_target_ref
            if reference.kind.lower() == thing.kind and reference.name == thing.name:
                name = autoscaler.metadata.name if autoscaler.metadata else ""
                raise PermanentError(
                    f"{thing} is scaled by the HorizontalPodAutoscaler {name}; change its limits instead",
                    reason="hpa_owned",
                )
        return True

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set the replicas shown in ``change``, if the object still has the version shown there."""
        cluster, thing = await target.cluster(), self._thing
        wanted = int(change.after["replicas"])
        scale = await cluster.write_scale(
            thing, wanted, str(change.volatile["resource_version"]), context.check_deadline
        )
        version = (scale.metadata.resource_version if scale.metadata else None) or ""
        return Outcome(summary=f"{thing} is scaled to {wanted}", data={"replicas": wanted, "resource_version": version})

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the wanted replicas are updated and ready, as ``kubectl rollout status`` would."""
        cluster, thing = await target.cluster(), self._thing
        before, after = int(change.before["replicas"]), int(change.after["replicas"])
        progress(thing, await cluster.read(thing), before, after)

    def inverse(self, change: Change) -> Scale:
        """Back to the replicas of before, only if there are still those of after."""
        before, after = int(change.before["replicas"]), int(change.after["replicas"])
        return Scale(
            namespace=self.namespace,
            deployment=self.deployment,
            statefulset=self.statefulset,
            exact=before,
            max=max(before, after),
            min=min(before, 1),
            allow_down=True,
            from_zero=True,
            only_from=after,
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the replicas are those of after, no if they are those of before, else unknown."""
        cluster = await target.cluster()
        scale: Any = await cluster.read_scale(self._thing)
        current = scale.spec.replicas or 0
        if current == change.after["replicas"]:
            return Happened.YES
        return Happened.NO if current == change.before["replicas"] else Happened.UNKNOWN
