"""What the actions on a deployment or stateful set share: which one, who keeps it in Git, and how they patch it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Happened, canonical_json
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._gitops import TEMPLATE, refuse_drift, wait_for_drift
from remediator.integrations.kubernetes._grant import Grant, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._rollout import complete, refuse_standstill
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import ContainerName, Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

HASH_LABEL = "pod-template-hash"


class OnWorkload(Action[KubernetesTarget]):
    """An action on one deployment or stateful set."""

    namespace: Namespace = Field(description="The namespace of the object.")
    deployment: Name | None = Field(default=None, description="The deployment.")
    statefulset: Name | None = Field(default=None, description="The stateful set.")
    @model_validator(mode="after")
    def _one_object(self) -> OnWorkload:
        if (self.deployment is None) == (self.statefulset is None):
            raise ValueError("write deployment or statefulset, exactly one of them")
        return self

    @property
    def thing(self) -> Thing:
        """The object that is acted on."""
        if self.deployment is not None:
            return Thing("deployment", self.namespace, self.deployment)
        return Thing("statefulset", self.namespace, self.statefulset or "")

    def needs(self) -> Mapping[str, str]:
        """Namespace and object must be permitted."""
        return {"namespaces": self.namespace, self.thing.resource: self.thing.name}

    def subject(self) -> str:
        """``deployment/<namespace>/<name>``."""
        return str(self.thing)

    def grants(self) -> list[Grant]:
        """Reading and patching the object."""
        return grants_on(self.thing, "get", "patch")


class Drifting(OnWorkload):
    """An action on a field that may be kept in Git."""

    allow_drift: bool = Field(
        default=False,
        description="Act also on what Argo CD or Flux keeps in Git, and see later that it was not put back."
    )
    drift_after: Duration = Field(
        default=180.0,
        gt=0,
        description="How long Git's side gets to put the change back before it counts as kept; with `allow_drift`.",
    )

    def where(self) -> dict[str, Any]:
        """The parameters that an inverse takes over."""
        given = {"namespace": self.namespace, self.thing.kind: self.thing.name}
        drift = {"allow_drift": True, "drift_after": format_duration(self.drift_after)} if self.allow_drift else {}
        return given | drift

    def drift(self, found: Workload, now: float) -> tuple[str, dict[str, Any]]:
        """What to add to the summary and to the change about Git. Raises PermanentError where it is not allowed."""
        said = refuse_drift(self.thing, found.metadata, TEMPLATE, allowed=self.allow_drift)
        return said, {"drift_from": now} if said else {}

    def wait_for_drift(self, change: Change, context: ActionContext) -> None:
        """Raises TemporaryError until Git's side has had its time, where the change was made against it."""
        if "drift_from" in change.volatile:
            wait_for_drift(float(change.volatile["drift_from"]), context.clock.now(), self.drift_after)


class OnTemplate(Drifting):
    """An action that changes the pod template in a way that can be read back: container by container."""

    container: ContainerName | None = Field(
        default=None, description="The container; needed where the pods have more than one."
    )

    def read(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """What ``before`` and ``after`` show of the container. Raises PermanentError."""
        raise NotImplementedError

    def wanted(self, now: dict[str, Any]) -> dict[str, Any]:
        """What ``read`` is to give afterwards. Raises PermanentError."""
        raise NotImplementedError

    def patch(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """The strategic merge patch of the container, without its name."""
        raise NotImplementedError

    def told(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """What the change does, for people."""
        raise NotImplementedError

    def chosen(self, found: Workload) -> dict[str, Any]:
        """The container of the template. Raises PermanentError."""
        return chosen(found.spec.template, self.container, self.thing)

    def _seen(self, found: Workload) -> dict[str, Any]:
        container = self.chosen(found)
        return {"container": str(container["name"]), **self.read(container)}

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """What would change in the container; the API server has been asked whether it would accept it.

        Raises TemporaryError, PermanentError.
        """
        cluster = await target.cluster()
        found = await cluster.get(self.thing, Workload)
        before = self._seen(found)
        after = {"container": before["container"], **self.wanted({k: v for k, v in before.items() if k != "container"})}
        if before != after:
            refuse_standstill(self.thing, found)
        said, drift = ("", {}) if before == after else self.drift(found, context.clock.now())
        change = Change(
            summary=f"{self.told(before, after)} in {self.thing}{said}"[:500],
            before=before,
            after=after,
            volatile={**version_of(self.thing, found), **drift},
        )
        if not change.empty:
            await self._pretend(cluster, change, context)
        return change

    def _body(self, change: Change, key: str, version: str) -> dict[str, Any]:
        container = {"name": change.before["container"], **self.patch(change.before, change.after)}
        return {
            "metadata": {"resourceVersion": version, "annotations": {CHANGED_BY: key}},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }

    async def _pretend(self, cluster: Cluster, change: Change, context: ActionContext) -> None:
        """A dry run with all admission: what would be refused is known before anybody is asked to approve it."""
        from remediator.integrations.kubernetes._cluster import STRATEGIC

        # Without a version: the dry run asks whether it would be allowed, not whether nothing has moved.
        body = self._body(change, context.key, "")
        body["metadata"].pop("resourceVersion")
        pretended = await cluster.patch(self.thing, body, Workload, content_type=STRATEGIC, dry=True)
        if self._seen(pretended) != dict(change.after):
            raise PermanentError(
                f"{self.thing} would not become as wanted: something in the cluster changes it on its way",
                reason="mutated",
            )

    async def apply_patch(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Workload:
        """Patch the container, if it still is as ``change`` shows it."""
        from remediator.integrations.kubernetes._cluster import STRATEGIC

        cluster = await target.cluster()
        return await patch_same(
            cluster,
            self.thing,
            Workload,
            change,
            lambda version: self._body(change, context.key, version),
            context,
            self._seen,
            content_type=STRATEGIC,
        )

    async def happened(self, target: KubernetesTarget, change: Change) -> Happened:
        """Yes if the container is as after, no if as before, else unknown. Raises TemporaryError, PermanentError."""
        seen = self._seen(await (await target.cluster()).get(self.thing, Workload))
        if seen == dict(change.after):
            return Happened.YES
        return Happened.NO if seen == dict(change.before) else Happened.UNKNOWN

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the template still is as wanted and its rollout is complete."""
        cluster = await target.cluster()
        found = await cluster.get(self.thing, Workload)
        if self._seen(found) != dict(change.after):
            raise PermanentError(f"{self.thing} is no longer as it was made: somebody has changed it", reason="changed")
        complete(self.thing, found)
        self.wait_for_drift(change, context)


def containers_of(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The containers of a pod template."""
    spec = template.get("spec")
    found = spec.get("containers") if isinstance(spec, Mapping) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def chosen(template: Mapping[str, Any], name: str | None, thing: Thing) -> dict[str, Any]:
    """The container called ``name``, or the only one there is. Raises PermanentError."""
    containers = containers_of(template)
    names = [str(each.get("name")) for each in containers]
    if name is None:
        if len(containers) != 1:
            raise PermanentError(f"{thing} has the containers {', '.join(names)}: write container", reason="container")
        return containers[0]
    if name not in names:
        raise PermanentError(f'{thing} has no container "{name}"; it has {", ".join(names)}', reason="container")
    return containers[names.index(name)]


def bare(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template without what the controller adds to it."""
    metadata = dict(template.get("metadata") or {})
    labels = {name: text for name, text in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    metadata = {name: value for name, value in metadata.items() if name != "creationTimestamp" and value is not None}
    return {**template, "metadata": {**metadata, "labels": labels}}


def digest_of(template: Mapping[str, Any]) -> str:
    """What tells two pod templates apart: SHA-256 of the canonical JSON, hex."""
    return hashlib.sha256(canonical_json(bare(template)).encode()).hexdigest()
