"""Tests of the action kubernetes.job_from_cronjob."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes.job_from_cronjob import JobFromCronjob
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer
from tests.integrations.kubernetes.carrying import carried_out, shown
from tests.integrations.kubernetes.stages import MIGRATE
from tests.integrations.support import acting

RUN = JobFromCronjob(namespace="production", cronjob="migrate")


@pytest.fixture(autouse=True)
async def cronjob(api: ApiServer) -> dict[str, Any]:
    """The migration, ready to run."""
    return api.put("cronjobs", "migrate", spec=MIGRATE, status={})


def _jobs(api: ApiServer) -> list[dict[str, Any]]:
    return [each for key, each in api.objects.items() if key[0] == "jobs"]


async def test_the_migration_runs_once(api: ApiServer, target: KubernetesTarget, cronjob: dict[str, Any]) -> None:
    """One job of the cron job's template, marked as kubectl marks it, owned by it; the same step makes no other."""
    change = await carried_out(RUN, target)
    assert change.after["images"] == ["migrate:1.2"]
    assert (await shown(RUN, target)).empty
    (job,) = _jobs(api)
    assert job["metadata"]["annotations"] == {
        "cronjob.kubernetes.io/instantiate": "manual",
        "remediator.io/changed-by": "run-1.step0",
    }
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("CronJob", cronjob["metadata"]["uid"])
    assert job["spec"]["template"]["spec"]["containers"] == [
        {"name": "migrate", "image": "migrate:1.2", "resources": {}}
    ]
    with pytest.raises(TemporaryError) as caught:
        await RUN.apply(target, change, acting())
    assert caught.value.reason == "conflict"
    assert len(_jobs(api)) == 1


async def test_a_failed_migration_fails_the_step(api: ApiServer, target: KubernetesTarget, cronjob: Any) -> None:
    """While it runs it is waited for; when it has failed, the step has failed."""
    api.settle = 60
    cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = "fails:1"
    change = await shown(RUN, target)
    await RUN.apply(target, change, acting())
    with pytest.raises(TemporaryError) as waiting:
        await RUN.verify(target, change, acting())
    assert waiting.value.reason == "running"
    for key in list(api.due):
        api.due[key] = 0.0
    with pytest.raises(PermanentError, match="BackoffLimitExceeded") as caught:
        await RUN.verify(target, change, acting())
    assert caught.value.reason == "job_failed"
    assert RUN.inverse(change) is None


async def test_it_is_not_run_beside_itself(api: ApiServer, target: KubernetesTarget, cronjob: Any) -> None:
    """A cron job that forbids concurrency and is running is waited for."""
    cronjob["status"] = {"active": [{"name": "migrate-1"}]}
    with pytest.raises(TemporaryError) as caught:
        await shown(RUN, target)
    assert caught.value.reason == "busy"


async def test_only_what_was_shown_is_run(api: ApiServer, target: KubernetesTarget, cronjob: Any) -> None:
    """If the cron job changes between the look and the act, nothing is run."""
    change = await shown(RUN, target)
    cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    with pytest.raises(TemporaryError):
        await RUN.apply(target, change, acting())
    assert _jobs(api) == []


async def test_somebody_elses_job_is_not_ours(api: ApiServer, target: KubernetesTarget) -> None:
    """A job that has the name and not the mark is neither taken for ours nor touched."""
    change = await shown(RUN, target)
    api.put("jobs", str(change.after["job"]), spec=copy.deepcopy(MIGRATE["jobTemplate"]["spec"]), status={})  # type: ignore[index]  # a literal of nested maps
    assert await RUN.reconcile(target, change, acting()) is Happened.UNKNOWN
    with pytest.raises(PermanentError) as caught:
        await shown(RUN, target)
    assert caught.value.reason == "exists"


async def test_long_names_fit(api: ApiServer, target: KubernetesTarget) -> None:
    """The job's name leaves room for what its pods' names add, in 63 characters."""
    api.put("cronjobs", "m" * 52, spec=MIGRATE, status={})
    change = await shown(JobFromCronjob(namespace="production", cronjob="m" * 52), target)
    assert len(str(change.after["job"])) <= 57
