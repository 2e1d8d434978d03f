"""``kubernetes.job_from_cronjob``: run now what a cron job holds ready, such as a migration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome, canonical_json
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._grant import Grant, grants_in, grants_on
from remediator.integrations.kubernetes._patching import CHANGED_BY
from remediator.integrations.kubernetes._revisions import images_of
from remediator.integrations.kubernetes._shape import Condition, Metadata, Shape
from remediator.integrations.kubernetes._thing import Name, Namespace, Thing
from remediator.integrations.kubernetes.target import KubernetesTarget


class _JobTemplate(Shape):
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: dict[str, Any]


class _CronSpec(Shape):
    concurrency_policy: str = "Allow"
    job_template: _JobTemplate


class _CronStatus(Shape):
    active: list[dict[str, Any]] = Field(default_factory=list)


class _CronJob(Shape):
    metadata: Metadata
    spec: _CronSpec
    status: _CronStatus = _CronStatus()


class _JobStatus(Shape):
    conditions: list[Condition] = Field(default_factory=list)


class _Job(Shape):
    metadata: Metadata
    status: _JobStatus = _JobStatus()


class JobFromCronjob(Action[KubernetesTarget]):
    """Creates a Job from a CronJob, as `kubectl create job --from` does, and waits until it is complete.

    The job's name comes from the step of the run: the same step never makes two. A cron job that forbids
    concurrency is not run beside itself.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL

    namespace: Namespace = Field(description="The cron job's namespace.")
    cronjob: Name = Field(description="The cron job's name.")

    @property
    def _cron(self) -> Thing:
        return Thing("cronjob", self.namespace, self.cronjob)

    def _job(self, key: str) -> Thing:
        # A pod's name is the job's and a few letters more, in 63 characters (RFC 1123).
        made = hashlib.sha256(key.encode()).hexdigest()[:12]
        return Thing("job", self.namespace, f"{self.cronjob[:40].rstrip('-.')}-{made}")

    def needs(self) -> Mapping[str, str]:
        """Namespace and cron job must be permitted."""
        return {"namespaces": self.namespace, "cronjobs": self.cronjob}

    def subject(self) -> str:
        """``cronjob/<namespace>/<name>``."""
        return str(self._cron)

    def grants(self) -> list[Grant]:
        """Reading the cron job, creating and reading jobs."""
        return grants_on(self._cron, "get") + grants_in("job", self.namespace, "create", "get")

    async def _made(self, target: KubernetesTarget, job: Thing) -> _Job | None:
        try:
            return await (await target.cluster()).get(job, _Job)
        except PermanentError as error:
            if error.reason == "status_404":
                return None
            raise

    async def diff(self, target: KubernetesTarget, context: ActionContext) -> Change:
        """The job that would be made, unless this step has made it. Raises TemporaryError, PermanentError."""
        cluster, job = await target.cluster(), self._job(context.key)
        made = await self._made(target, job)
        if made is not None:
            if made.metadata.annotations.get(CHANGED_BY) != context.key:
                raise PermanentError(f"{job} is there and somebody else's", reason="exists")
            shown = {"job": job.name}
            return Change(summary=f"{job} has been made by this step", before=shown, after=shown)
        found = await cluster.get(self._cron, _CronJob)
        if found.spec.concurrency_policy == "Forbid" and found.status.active:
            raise TemporaryError(f"{self._cron} is running, and forbids to run twice at once", reason="busy")
        template = found.spec.job_template
        return Change(
            summary=f"run {self._cron} now, as {job}",
            before={"job": None},
            after={
                "job": job.name,
                "images": images_of(template.spec.get("template") or {}),
                "template": _digest(template),
            },
        )

    async def apply(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Outcome:
        """Create the job, if the cron job still holds what was shown."""
        cluster, job = await target.cluster(), self._job(context.key)
        found = await cluster.get(self._cron, _CronJob)
        template = found.spec.job_template
        if _digest(template) != change.after["template"]:
            raise TemporaryError(f"{self._cron} has changed since it was read", reason="conflict")
        metadata = template.metadata
        # Without blockOwnerDeletion, which needs a right on the cron job's finalizers.
        owner = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": self.cronjob,
            "uid": found.metadata.uid,
            "controller": True,
        }
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": job.name,
                "labels": metadata.get("labels") or {},
                "annotations": {
                    **(metadata.get("annotations") or {}),
                    "cronjob.kubernetes.io/instantiate": "manual",
                    CHANGED_BY: context.key,
                },
                "ownerReferences": [owner],
            },
            "spec": template.spec,
        }
        await cluster.create(job, body, check=context.check_deadline)
        return Outcome(summary=f"{job} is made", data={"job": job.name})

    async def verify(self, target: KubernetesTarget, change: Change, context: ActionContext) -> None:
        """Returns when the job is complete. Raises PermanentError when it has failed."""
        job = Thing("job", self.namespace, str(change.after["job"]))
        found = await (await target.cluster()).get(job, _Job)
        states = {each.type: each for each in found.status.conditions if each.status == "True"}
        if "Failed" in states:
            failed = states["Failed"]
            raise PermanentError(f"{job} has failed: {failed.reason} {failed.message}"[:400], reason="job_failed")
        if "Complete" not in states:
            raise TemporaryError(f"{job} is running", reason="running")

    async def reconcile(self, target: KubernetesTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the job is there and ours, no if it is not there."""
        made = await self._made(target, Thing("job", self.namespace, str(change.after["job"])))
        if made is None:
            return Happened.NO
        return Happened.YES if made.metadata.annotations.get(CHANGED_BY) == context.key else Happened.UNKNOWN


def _digest(template: _JobTemplate) -> str:
    return hashlib.sha256(canonical_json(template.model_dump(mode="json")).encode()).hexdigest()
