"""``kubernetes.scale``: change how many replicas a deployment or stateful set has, by the lever that decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.action import ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes import _autoscaler
from remediator.integrations.kubernetes._autoscaler import Lever, Limits, find_autoscaler, named, read_lever
from remediator.integrations.kubernetes._gitops import REPLICAS, refuse_drift
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._patching import patch_same, version_of
from remediator.integrations.kubernetes._rollout import progress
from remediator.integrations.kubernetes._shape import Replicas as Scaled
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Name, Thing
from remediator.integrations.kubernetes._wanted import Wish
from remediator.integrations.kubernetes._workload import Drifting
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

Replicas = Annotated[int, Field(ge=0, le=100_000)]
_WISHES = ("at_least", "at_most", "by", "exact", "limits_back")


class LimitsBack(BaseModel):
    """Limits to put back, and those that must still be there; written by taking a change back."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["horizontalpodautoscaler", "scaledobject"]
    autoscaler: Name
    least: Replicas
    most: Replicas
    from_least: Replicas
    from_most: Replicas


class Scale(Drifting):
    """Sets the replicas through the scale subresource, only if they are unchanged since they were looked at.

    Exactly one of `at_least`, `at_most`, `by` and `exact` says how many. Whatever can raise needs `max`; nothing
    goes below `min`, which is 1 unless written. What an autoscaler owns is left alone, or with `autoscaler: limits`
    scaled by moving the autoscaler's own limits within `min` and `max`.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset(
        {"max", "min", "allow_down", "from_zero", "autoscaler", "allow_drift", "drift_after"}
    )

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
    autoscaler: Literal["refuse", "limits"] = Field(
        default="refuse",
        description="What to do where an autoscaler owns the replicas: `refuse`, or move its `limits` within `min` and "
        "`max`.",
    )
    autoscaler_name: Name | None = Field(
        default=None, description="The autoscaler's name, so that a Role can name it; any other one is refused."
    )
    limits_back: LimitsBack | None = Field(
        default=None, description="Limits of an autoscaler to put back; used to take a change back."
    )

    @model_validator(mode="after")
    def _one_number(self) -> Scale:
        given = [n for n in _WISHES if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("write exactly one of at_least, at_most, by and exact")
        if given[0] == "limits_back":
            return self
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

    def grants(self) -> list[Grant]:
        """The scale subresource to look and act, the object to verify, the autoscalers to know who decides."""
        found = grants_on(self.thing, "get", "patch", sub="scale") + grants_on(self.thing, "get")
        found += grants_in("horizontalpodautoscaler", self.namespace, "list")
        if self.autoscaler == "limits":
            lever = Thing("horizontalpodautoscaler", self.namespace, self.autoscaler_name or "")
            found += grants_on(lever, "get", "patch")
        return found

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """Replicas, or limits, now and wanted. Raises TemporaryError; PermanentError where somebody else decides."""
        cluster, thing = await target.cluster(), self.thing
        if self.limits_back is not None:
            return await self._put_back(cluster, self.limits_back, context.clock.now())
        scale = await cluster.get(thing, Scaled, subresource="scale")
        current = scale.spec.replicas
        checked = False
        if self.autoscaler == "limits":
            autoscaler = await find_autoscaler(cluster, thing)
            if autoscaler is not None:
                return self._limits(await read_lever(cluster, autoscaler), current, context.clock.now())
            checked = True
        version = version_of(thing, scale)
        wanted = self._wish().replicas(current)
        summary = f"scale {thing} from {current} to {wanted}"
        drift: dict[str, Any] = {}
        if wanted != current:
            if not checked and not await self._no_autoscaler(cluster):
                summary += " (HPA not checked: not allowed to list horizontalpodautoscalers)"
            said, drift = await self._git(cluster, context.clock.now())
            summary += said
        return Change(
            summary=summary,
            before={"replicas": current},
            after={"replicas": wanted},
            volatile={**version, **drift},
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

    async def _no_autoscaler(self, cluster: Cluster) -> bool:
        """False if it may not be looked up. Raises PermanentError if an autoscaler targets the object."""
        try:
            autoscaler = await find_autoscaler(cluster, self.thing)
        except PermanentError as error:
            if error.reason == "status_403":
                return False
            raise
        if autoscaler is not None:
            raise PermanentError(
                f"{self.thing} is scaled by {named(autoscaler)}; change its limits instead, with autoscaler: limits",
                reason="hpa_owned",
            )
        return True

    async def _git(self, cluster: Cluster, now: float) -> tuple[str, dict[str, Any]]:
        """What to add to summary and change about who keeps the replicas in Git. Raises PermanentError."""
        try:
            found = await cluster.get(self.thing, Workload)
        except PermanentError as error:
            if error.reason == "status_403":
                return f" (Git not checked: not allowed to get {self.thing.resource})", {}
            raise
        said = refuse_drift(self.thing, found.metadata, REPLICAS, allowed=self.allow_drift)
        return said, {"drift_from": now} if said else {}

    def _limits(self, lever: Lever, current: int, now: float) -> Change:
        if self.autoscaler_name not in (None, lever.thing.name):
            raise PermanentError(
                f"{self.thing} is scaled by {lever} and not by {self.autoscaler_name}", reason="hpa_owned"
            )
        if current == 0 and not self.from_zero:
            raise PermanentError(
                f"{self.thing} is scaled to 0, which turns {lever} off; somebody did that on purpose",
                reason="scaled_to_zero",
            )
        return self._limits_change(lever, self._wish().limits(lever.limits, current), now)

    async def _put_back(self, cluster: Cluster, back: LimitsBack, now: float) -> Change:
        lever = await read_lever(cluster, Thing(back.kind, self.namespace, back.autoscaler))
        wanted = Limits(back.least, back.most)
        if lever.limits not in (wanted, Limits(back.from_least, back.from_most)):
            raise PermanentError(
                f"the limits of {lever} are {lever.limits.least} and {lever.limits.most} now, which is not what this "
                "change is made for: somebody else has changed them",
                reason="changed",
            )
        return self._limits_change(lever, wanted, now)

    def _limits_change(self, lever: Lever, wanted: Limits, now: float) -> Change:
        said = ""
        if wanted != lever.limits:
            said = refuse_drift(lever, lever.metadata, lever.field, allowed=self.allow_drift)
        return Change(
            summary=f"let {lever} move {self.thing} between {wanted.least} and {wanted.most} "
            f"instead of {lever.limits.least} and {lever.limits.most}{said}",
            before=_autoscaler.shown(lever.thing, lever.limits),
            after=_autoscaler.shown(lever.thing, wanted),
            volatile={**_autoscaler.shown_version(lever), **({"drift_from": now} if said else {})},
        )

    def _lever(self, change: Change) -> Thing:
        return Thing(change.after["kind"], self.namespace, change.after["autoscaler"])

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Set what ``change`` shows, if what it was made for still is so."""
        cluster, thing = await target.cluster(), self.thing
        if "autoscaler" in change.after:
            await _autoscaler.write_limits(cluster, self._lever(change), change, context)
            return Outcome(summary=f"{thing} is kept between other limits", data=dict(change.after))
        wanted = int(change.after["replicas"])
        scale = await patch_same(
            cluster,
            thing,
            Scaled,
            change,
            lambda version: {"metadata": {"resourceVersion": version}, "spec": {"replicas": wanted}},
            context,
            lambda found: {"replicas": found.spec.replicas},
            subresource="scale",
        )
        version = scale.metadata.resource_version
        return Outcome(summary=f"{thing} is scaled to {wanted}", data={"replicas": wanted, "resource_version": version})

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the wanted replicas are updated and ready, as ``kubectl rollout status`` would."""
        cluster, thing = await target.cluster(), self.thing
        found = await cluster.get(thing, Workload)
        if "autoscaler" in change.after:
            await self._verify_limits(cluster, found, change)
        else:
            progress(thing, found, int(change.before["replicas"]), int(change.after["replicas"]))
        self.wait_for_drift(change, context)

    async def _verify_limits(self, cluster: Cluster, found: Workload, change: Change) -> None:
        lever = await read_lever(cluster, self._lever(change))
        if _autoscaler.shown(lever.thing, lever.limits) != dict(change.after):
            raise PermanentError(
                f"the limits of {lever} are no longer as they were made: somebody has changed them", reason="changed"
            )
        least, most, desired = int(change.after["least"]), int(change.after["most"]), found.spec.replicas
        if not least <= desired <= most:
            raise TemporaryError(f"{lever} has not moved {self.thing} from {desired} yet", reason="not_ready")
        progress(self.thing, found, 0, desired)

    def inverse(self, change: Change) -> Scale:
        """Back to the replicas or limits of before, only if there are still those of after."""
        if "autoscaler" in change.after:
            back = {
                "kind": change.before["kind"],
                "autoscaler": change.before["autoscaler"],
                "least": change.before["least"],
                "most": change.before["most"],
                "from_least": change.after["least"],
                "from_most": change.after["most"],
            }
            return Scale.model_validate({**self.where(), "limits_back": back})
        before, after = int(change.before["replicas"]), int(change.after["replicas"])
        return Scale.model_validate(
            {
                **self.where(),
                "exact": before,
                "max": max(before, after),
                "min": min(before, 1),
                "allow_down": True,
                "from_zero": True,
                "only_from": after,
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the replicas or limits are those of after, no if they are those of before, else unknown."""
        cluster = await target.cluster()
        if "autoscaler" in change.after:
            lever = await read_lever(cluster, self._lever(change))
            seen: Mapping[str, Any] = _autoscaler.shown(lever.thing, lever.limits)
        else:
            seen = {"replicas": (await cluster.get(self.thing, Scaled, subresource="scale")).spec.replicas}
        if seen == dict(change.after):
            return Happened.YES
        return Happened.NO if seen == dict(change.before) else Happened.UNKNOWN
