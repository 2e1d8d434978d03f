"""``kubernetes.patch_service_selector``: send a service's traffic to other pods (blue-green)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._gitops import refuse_drift, wait_for_drift
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._pods import Pod
from remediator.integrations.kubernetes._shape import Metadata, Shape
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

# Syntax of labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
Label = Annotated[str, StringConstraints(pattern=rf"^([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}$")]
LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_NAME})?$")]
Selector = dict[Label, LabelValue | None]


class _Spec(Shape):
    selector: dict[str, str] = Field(default_factory=dict)


class _Service(Shape):
    metadata: Metadata
    spec: _Spec = _Spec()


class PatchServiceSelector(Action[KubernetesTarget]):
    """Changes labels of a service's selector, only if they are unchanged since they were looked at.

    It refuses to send traffic where no pod is ready to take it.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"min_ready", "allow_drift", "drift_after"})

    namespace: Namespace = Field(description="The service's namespace.")
    service: Name = Field(description="The service's name.")
    selector: Selector = Field(
        min_length=1, max_length=10, description="Labels and their values; null takes a label away. All others stay."
    )
    min_ready: int = Field(
        default=1, ge=1, le=10_000, description="So many pods with the new labels must be ready, before and afterwards."
    )
    only_from: Selector | None = Field(
        default=None, description="Act only if the labels have exactly these values now; used to take a change back."
    )
    allow_drift: bool = Field(
        default=False,
        description="Act also on what Argo CD or Flux keeps in Git, and see later that it was not put back."
    )
    drift_after: Duration = Field(
        default=180.0,
        gt=0,
        description="How long Git's side gets to put the change back before it counts as kept; with `allow_drift`.",
    )

    @property
    def _thing(self) -> Thing:
        return Thing("service", self.namespace, self.service)

    def needs(self) -> Mapping[str, str]:
        """Namespace and service must be permitted."""
        return {"namespaces": self.namespace, "services": self.service}

    def subject(self) -> str:
        """``service/<namespace>/<name>``."""
        return str(self._thing)

    def grants(self) -> list[Grant]:
        """Reading and patching the service, listing the pods it would send traffic to."""
        return grants_on(self._thing, "get", "patch") + grants_in("pod", self.namespace, "list")

    def _seen(self, found: _Service) -> dict[str, Any]:
        return {"selector": {name: found.spec.selector.get(name) for name in sorted(self.selector)}}

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """The labels now and wanted. Raises TemporaryError; PermanentError where nobody would take the traffic."""
        cluster, thing = await target.cluster(), self._thing
        found = await cluster.get(thing, _Service)
        before, wish = self._seen(found), {name: self.selector[name] for name in sorted(self.selector)}
        if before["selector"] == wish:
            return Change(summary=f"{thing} has this selector already", before=before, after=before)
        if self.only_from is not None and before["selector"] != self.only_from:
            raise PermanentError(
                f"the selector of {thing} is no longer what this change is made for: somebody else has changed it",
                reason="changed",
            )
        said = refuse_drift(thing, found.metadata, ("spec", "selector"), allowed=self.allow_drift)
        ready = await self._ready(cluster, found)
        if ready < self.min_ready:
            raise PermanentError(
                f"{ready} pods with the new labels are ready and not {self.min_ready}: nobody would take the traffic",
                reason="no_ready_pods",
            )
        told = ", ".join(
            f"{name}={value or 'nothing'} instead of {before['selector'][name] or 'nothing'}"
            for name, value in wish.items()
            if value != before["selector"][name]
        )
        return Change(
            summary=f"send the traffic of {thing} to {told}{said}"[:500],
            before=before,
            after={"selector": wish},
            volatile={**version_of(thing, found), **({"drift_from": context.clock.now()} if said else {})},
        )

    async def _ready(self, cluster: Cluster, found: _Service) -> int:
        """How many pods are ready that the service would choose with the new labels."""
        chosen: dict[str, str | None] = {**found.spec.selector, **self.selector}
        labels = ",".join(f"{name}={value}" for name, value in sorted(chosen.items()) if value is not None)
        if not labels:
            raise PermanentError(f"{self._thing} would have no selector at all", reason="no_selector")
        return sum(pod.ready for pod in await cluster.list_all("pod", self.namespace, Pod, labels=labels))

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Change the labels, if they still are those of before."""
        selector = dict(change.after["selector"])

        def body(version: str) -> dict[str, Any]:
            return {
                "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: context.key}},
                "spec": {"selector": selector},
            }

        cluster = await target.cluster()
        await patch_same(cluster, self._thing, _Service, change, body, context, self._seen)
        return Outcome(summary=f"{self._thing} sends its traffic elsewhere", data={"selector": selector})

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the labels still are as wanted and enough pods with them are ready."""
        cluster = await target.cluster()
        found = await cluster.get(self._thing, _Service)
        if self._seen(found) != dict(change.after):
            raise PermanentError(f"somebody else has changed the selector of {self._thing}", reason="changed")
        ready = await self._ready(cluster, found)
        if ready < self.min_ready:
            raise PermanentError(f"only {ready} pods of {self._thing} are ready now", reason="no_ready_pods")
        if "drift_from" in change.volatile:
            wait_for_drift(float(change.volatile["drift_from"]), context.clock.now(), self.drift_after)

    def inverse(self, change: Change) -> PatchServiceSelector:
        """Back to the labels of before, only if those of after are still there."""
        drift = {"allow_drift": True, "drift_after": format_duration(self.drift_after)} if self.allow_drift else {}
        return PatchServiceSelector.model_validate(
            {
                "namespace": self.namespace,
                "service": self.service,
                "selector": change.before["selector"],
                "only_from": change.after["selector"],
                "min_ready": self.min_ready,
                **drift,
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the labels are those of after, no if those of before, else unknown."""
        seen = self._seen(await (await target.cluster()).get(self._thing, _Service))
        if seen == dict(change.after):
            return Happened.YES
        return Happened.NO if seen == dict(change.before) else Happened.UNKNOWN
