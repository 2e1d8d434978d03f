"""Which past runs count as failed, for every guard that counts failures: an action that did not help has failed."""

from __future__ import annotations

from collections.abc import Iterable

from remediator.facts import PastRun

FAILED = frozenset(("failed", "needs_human"))
"""States of runs that acted and did not end well."""
REASONS = frozenset(("ineffective", "unverified", "unknown_verification"))
"""Reasons that say so whatever the state is."""


def failed(run: PastRun) -> bool:
    """Whether the run acted and did not solve the problem."""
    return run.state in FAILED or run.reason in REASONS


def streak(runs: Iterable[PastRun]) -> list[PastRun]:
    """The runs that failed since the last success, newest first; what ended in another way says nothing."""
    found = []
    for run in runs:
        if run.over_at is None:
            continue
        if failed(run):
            found.append(run)
        elif run.state == "succeeded":
            break
    return found
