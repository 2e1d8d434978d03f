"""Whether a scaled object has come to rest, by the rules of ``kubectl rollout status``."""

from __future__ import annotations

from typing import Any

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.kubernetes._thing import Thing


def progress(thing: Thing, found: Any, before: int, after: int) -> None:
    """Return when ``found`` has the replicas of ``after``, ready and up to date.

    Raises TemporaryError while it has not, PermanentError if it never will.
    """
    status, desired = found.status, found.spec.replicas or 0
    if desired != after and (desired < after) == (after > before):
        raise PermanentError(
            f"{thing} wants {desired} replicas now and not {after}: somebody else has changed it", reason="changed"
        )
    if (status.observed_generation or 0) < (found.metadata.generation or 0):
        raise TemporaryError(f"the controller has not seen the change of {thing} yet", reason="not_observed")
    _deadline(thing, status)
    present, updated = status.replicas or 0, status.updated_replicas or 0
    ready = status.ready_replicas or 0
    if after < before:
        if present > after:
            raise TemporaryError(f"{thing} still has {present} replicas, {after} wanted", reason="not_ready")
        return
    available = (
        ready if status.available_replicas is None and thing.kind == "statefulset" else (status.available_replicas or 0)
    )
    if min(ready, available) < after or (thing.kind == "deployment" and updated < after):
        raise TemporaryError(
            f"{thing} has {updated} updated, {ready} ready and {available} available replicas, {after} wanted",
            reason="not_ready",
        )


def _deadline(thing: Thing, status: Any) -> None:
    for condition in status.conditions or []:
        if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
            raise PermanentError(
                f"{thing} has exceeded its progress deadline: {condition.message or ''}"[:400],
                reason="progress_deadline",
            )
