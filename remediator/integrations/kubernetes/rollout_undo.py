"""``kubernetes.rollout_undo``: roll a deployment back to an earlier revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError
from remediator.integrations.kubernetes._gitops import TEMPLATE, refuse_drift, wait_for_drift
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY, patch_same, version_of
from remediator.integrations.kubernetes._revisions import CAUSE, Revision, images_of, moved_at, revision_of, revisions
from remediator.integrations.kubernetes._rollout import complete
from remediator.integrations.kubernetes._shape import Workload
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes._workload import bare, containers_of, digest_of
from remediator.integrations.kubernetes.target import KubernetesTarget

if TYPE_CHECKING:
    from remediator.integrations.kubernetes._cluster import Cluster

Template = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RolloutUndo(Action[KubernetesTarget]):
    """Puts the pod template of an earlier revision back, as `kubectl rollout undo` does, and waits for the rollout.

    The revision is fixed when the change is shown, with the images and the names of the variables that go back with
    it. It refuses where there is nothing certain to go back to: an unknown revision, a paused deployment, one that
    has not changed lately, and one that was rolled back already, where "previous" is what was just left.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"only_if_changed_within", "allow_drift", "drift_after"})

    namespace: Namespace = Field(description="The deployment's namespace.")
    deployment: Name = Field(description="The deployment's name.")
    to_revision: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The revision to go back to; the one before the current one if absent."
    )
    only_if_changed_within: Duration | None = Field(
        default=None,
        gt=0,
        description="Only if the last rollout moved within this time: an older one is not the cause.",
    )
    to_template: Template | None = Field(
        default=None, description="The pod template to go back to, whatever number it has; used to take a change back."
    )
    only_from: Template | None = Field(
        default=None, description="Act only if this pod template runs now; used to take a change back."
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
        """Reading and patching the deployment, listing its ReplicaSets."""
        return grants_on(self.thing, "get", "patch") + grants_in("replicaset", self.namespace, "list")

    @staticmethod
    def _seen(found: Workload) -> dict[str, Any]:
        template = found.spec.template
        return {"revision": revision_of(found), "images": images_of(template), "template": digest_of(template)}

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """The revision that would come back, and what goes with it. Raises TemporaryError, PermanentError."""
        cluster, thing = await target.cluster(), self.thing
        found = await cluster.get(thing, Workload)
        before = self._seen(found)
        ours = found.metadata.annotations.get(CHANGED_BY) == f"{context.key} {before['template']}"
        if ours and self.only_from is None:
            return Change(summary=f"{thing} has been rolled back by this step", before=before, after=before)
        if before["template"] == self.to_template:
            return Change(summary=f"{thing} runs this template already", before=before, after=before)
        known = await revisions(cluster, thing, found)
        wanted = self._revision(found, known)
        if wanted.digest == before["template"]:
            return Change(summary=f"{thing} runs revision {wanted.number} already", before=before, after=before)
        self._may(found, before, context.clock.now())
        said = refuse_drift(thing, found.metadata, TEMPLATE, allowed=self.allow_drift)
        told = _told(found.spec.template, wanted.template)
        change = Change(
            summary=f"roll {thing} back from revision {before['revision']} to {wanted.number}: {told}{said}"[:500],
            before=before,
            after={
                "revision": wanted.number,
                "images": wanted.images,
                "template": wanted.digest,
                "goes_back": told,
            },
            volatile={**version_of(thing, found), **({"drift_from": context.clock.now()} if said else {})},
        )
        await self._pretend(cluster, wanted, found)
        return change

    def _revision(self, found: Workload, known: list[Revision]) -> Revision:
        thing, current = self.thing, revision_of(found)
        if not current or (found.status.observed_generation < found.metadata.generation and not found.spec.paused):
            raise PermanentError(f"the revision of {thing} is not known yet", reason="unknown_revision")
        if self.to_revision is not None or self.to_template is not None:
            wanted = next((each for each in known if self._asks_for(each)), None)
            if wanted is None:
                have = ", ".join(str(each.number) for each in known) or "none"
                raise PermanentError(
                    f"{thing} has no revision {self.to_revision}; it has {have}", reason="unknown_revision"
                )
            return wanted
        before = [each for each in known if each.number < current]
        if not before:
            raise PermanentError(f"{thing} has no revision before {current}", reason="no_previous")
        if any(each.number == current and each.again for each in known):
            raise PermanentError(
                f"{thing} was rolled back already: revision {current} is an older one again, and the one before it is "
                "what was left then; write to_revision to go back further",
                reason="already_rolled_back",
            )
        return before[-1]

    def _asks_for(self, revision: Revision) -> bool:
        # A revision that becomes the current one again gets a new number, its template stays.
        return revision.digest == self.to_template if self.to_template else revision.number == self.to_revision

    def _may(self, found: Workload, before: Mapping[str, Any], now: float) -> None:
        if self.only_from not in (None, before["template"]):
            raise PermanentError(
                f"{self.thing} no longer runs what this change is made for: somebody else has changed it",
                reason="changed",
            )
        if found.spec.paused:
            raise PermanentError(f"{self.thing} is paused; resume it first", reason="paused")
        if self.only_if_changed_within is None:
            return
        moved = moved_at(found)
        if moved is None:
            raise PermanentError(f"when {self.thing} was changed last is not known", reason="unknown_age")
        if now - moved > self.only_if_changed_within:
            raise PermanentError(
                f"{self.thing} was changed {format_duration(round(now - moved))} ago and not within "
                f"{format_duration(self.only_if_changed_within)}: its last change is not the cause",
                reason="not_recent",
            )

    @staticmethod
    def _body(wanted: Revision, note: str, found_cause: bool, version: str) -> list[dict[str, Any]]:
        place = "/metadata/annotations/"
        patch: list[dict[str, Any]] = [
            {"op": "replace", "path": "/spec/template", "value": bare(wanted.template)},
            {"op": "add", "path": place + CHANGED_BY.replace("/", "~1"), "value": note},
        ]
        if wanted.cause:
            patch.append({"op": "add", "path": place + CAUSE.replace("/", "~1"), "value": wanted.cause})
        elif found_cause:
            patch.append({"op": "remove", "path": place + CAUSE.replace("/", "~1")})
        if version:
            patch.insert(0, {"op": "replace", "path": "/metadata/resourceVersion", "value": version})
        return patch

    async def _pretend(self, cluster: Cluster, wanted: Revision, found: Workload) -> None:
        from remediator.integrations.kubernetes._cluster import JSON_PATCH

        body = self._body(wanted, "", CAUSE in found.metadata.annotations, "")
        pretended = await cluster.patch(self.thing, body, Workload, content_type=JSON_PATCH, dry=True)
        if digest_of(pretended.spec.template) != wanted.digest:
            raise PermanentError(
                f"{self.thing} would not become revision {wanted.number}: something in the cluster changes it",
                reason="mutated",
            )

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Put the template of the revision in ``change`` back, if what was running then still runs."""
        from remediator.integrations.kubernetes._cluster import JSON_PATCH

        cluster, thing = await target.cluster(), self.thing
        found = await cluster.get(thing, Workload)
        known = await revisions(cluster, thing, found)
        wanted = next((each for each in known if each.digest == change.after["template"]), None)
        if wanted is None:
            raise PermanentError(
                f"revision {change.after['revision']} of {thing} is no longer there", reason="unknown_revision"
            )
        chosen, cause = wanted, CAUSE in found.metadata.annotations
        note = f"{context.key} {chosen.digest}"
        patched = await patch_same(
            cluster,
            thing,
            Workload,
            change,
            lambda version: self._body(chosen, note, cause, version),
            context,
            self._seen,
            content_type=JSON_PATCH,
        )
        return Outcome(
            summary=f"{thing} is rolled back to revision {change.after['revision']}",
            data={
                "from_revision": change.before["revision"],
                "to_revision": change.after["revision"],
                "images": change.after["images"],
                "generation": patched.metadata.generation,
            },
        )

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the template still is the one that was put back and its rollout is complete."""
        found = await (await target.cluster()).get(self.thing, Workload)
        if digest_of(found.spec.template) != change.after["template"]:
            raise PermanentError(
                f"{self.thing} no longer runs revision {change.after['revision']}: somebody has changed it",
                reason="changed",
            )
        complete(self.thing, found)
        if "drift_from" in change.volatile:
            wait_for_drift(float(change.volatile["drift_from"]), context.clock.now(), self.drift_after)

    def inverse(self, change: Change) -> Action[KubernetesTarget]:
        """Forward again to the revision of before, only if the one of after still runs."""
        drift = {"allow_drift": True, "drift_after": format_duration(self.drift_after)} if self.allow_drift else {}
        return RolloutUndo.model_validate(
            {
                "namespace": self.namespace,
                "deployment": self.deployment,
                "to_revision": change.before["revision"],
                "to_template": change.before["template"],
                "only_from": change.after["template"],
                **drift,
            }
        )

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the template of after runs, no if that of before, else unknown."""
        seen = digest_of((await (await target.cluster()).get(self.thing, Workload)).spec.template)
        if seen == change.after["template"]:
            return Happened.YES
        return Happened.NO if seen == change.before["template"] else Happened.UNKNOWN


def _told(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which images go back, and which variables: their names only, for their values may be secrets."""
    was = {str(each.get("name")): each for each in containers_of(now)}
    parts = []
    for each in containers_of(wanted):
        name = str(each.get("name"))
        old = was.get(name, {})
        if old.get("image") != each.get("image"):
            parts.append(f"{name}: {each.get('image')} instead of {old.get('image', 'nothing')}")
        names = sorted(set(_env(old).items() ^ _env(each).items()), key=str)
        if names:
            parts.append(f"{name}: other {', '.join(dict.fromkeys(variable for variable, _ in names))}")
    return "; ".join(parts) or "the same images and variables, other settings"


def _env(container: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(each.get("name")): repr((each.get("value"), each.get("valueFrom"))) for each in container.get("env") or []
    }
