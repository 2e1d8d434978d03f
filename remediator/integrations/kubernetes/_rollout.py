"""Whether a rollout or a scaling has come to rest, by the rules of ``kubectl rollout status``."""

from __future__ import annotations

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._shape import Workload, WorkloadStatus
from remediator.integrations.kubernetes._thing import Thing


def progress(thing: Thing, found: Workload, before: int, after: int) -> None:
    """Return when ``found`` has the replicas of ``after``, ready and up to date.

    Raises TemporaryError while it has not, PermanentError if it never will.
    """
    status, desired = found.status, found.spec.replicas
    if desired != after and (desired < after) == (after > before):
        raise PermanentError(
            f"{thing} wants {desired} replicas now and not {after}: somebody else has changed it", reason="changed"
        )
    _observed(thing, found)
    present, updated, ready = status.replicas, status.updated_replicas, status.ready_replicas
    if after < before:
        if present > after:
            raise TemporaryError(f"{thing} still has {present} replicas, {after} wanted", reason="not_ready")
        return
    available = _available(thing, status)
    if min(ready, available) < after or (thing.kind == "deployment" and updated < after):
        raise TemporaryError(
            f"{thing} has {updated} updated, {ready} ready and {available} available replicas, {after} wanted",
            reason="not_ready",
        )


def refuse_standstill(thing: Thing, found: Workload) -> None:
    """Raises PermanentError where a changed template would replace no pod."""
    if found.spec.paused:
        raise PermanentError(f"{thing} is paused; resume it first", reason="paused")
    if found.spec.update_strategy.type == "OnDelete":
        raise PermanentError(f"{thing} replaces its pods only when they are deleted (OnDelete)", reason="on_delete")


def complete(thing: Thing, found: Workload) -> None:
    """Return when every replica runs the newest template, is available, and no older one is left.

    Raises TemporaryError while it is not so, PermanentError if it never will be.
    """
    _observed(thing, found)
    status, desired = found.status, found.spec.replicas
    updated = status.updated_replicas
    if thing.kind == "statefulset" and desired and status.update_revision == status.current_revision:
        updated = max(updated, status.replicas)  # A finished update is counted as current replicas.
    available = _available(thing, status)
    if updated < desired:
        raise TemporaryError(f"{thing}: {updated} of {desired} new replicas have been updated", reason="not_ready")
    if status.replicas > updated:
        left = status.replicas - updated
        raise TemporaryError(f"{thing}: {left} old replicas are about to end", reason="not_ready")
    if available < updated:
        raise TemporaryError(f"{thing}: {available} of {updated} updated replicas are available", reason="not_ready")


def _available(thing: Thing, status: WorkloadStatus) -> int:
    # Stateful sets count available replicas only since Kubernetes 1.22.
    if status.available_replicas is None and thing.kind == "statefulset":
        return status.ready_replicas
    return status.available_replicas or 0


def _observed(thing: Thing, found: Workload) -> None:
    if found.status.observed_generation < found.metadata.generation:
        raise TemporaryError(f"the controller has not seen the change of {thing} yet", reason="not_observed")
    condition = found.status.condition("Progressing")
    if condition is not None and condition.reason == "ProgressDeadlineExceeded":
        raise PermanentError(
            f"{thing} has exceeded its progress deadline: {condition.message}"[:400], reason="progress_deadline"
        )
