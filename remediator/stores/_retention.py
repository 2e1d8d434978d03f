"""What retention may remove and what it leaves a record of, written once for every store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from remediator.audit import GENESIS, AuditRecord, Entry, verify
from remediator.clock import format_instant
from remediator.store import Pruned

SEGMENT = 1000
"""Records that are removed together; the newest ones, which fill no segment yet, always stay."""

ENDED = "state IN ('cancelled', 'denied', 'expired', 'failed', 'observed', 'succeeded')"
"""Runs that are over for everybody, letter by letter as the index ``run_over`` says it; needs_human is not."""


class Gone(NamedTuple):
    """The end of what was removed from the audit before: its last number and that record's digest (hex)."""

    last: int = 0
    head: str = GENESIS.hex()


class Segment(NamedTuple):
    """A row of ``audit_segment``: records ``first`` to ``last``, sealed when the last was written, now removed."""

    last: int
    first: int
    head: str
    sealed_at: float
    removed_at: float


def segment(records: Sequence[AuditRecord], gone: Gone, now: float) -> Segment | str:
    """The SEGMENT ``records`` after ``gone`` as one that may be removed, or why not: evidence of tampering stays."""
    found = verify(records, first=gone.last + 1, previous=bytes.fromhex(gone.head))
    if not found.ok:
        return f"the audit is not removed any further: {found.message}"
    newest = records[-1]
    return Segment(newest.sequence, gone.last + 1, newest.digest, newest.at, now)


def pruned(done: Pruned, before: float, removed: Segment | None) -> Entry:
    """The record of one removal; with ``audit`` it is what proves that the missing records were removed by us."""
    detail: dict[str, object] = {
        "before": format_instant(before),
        "deliveries": done.deliveries,
        "effects": done.effects,
        "incidents": done.incidents,
        "runs": done.runs,
    }
    if removed is not None:
        detail["audit"] = {"first": removed.first, "last": removed.last, "head": removed.head}
    return Entry(event="storage.pruned", actor="remediator", detail=detail)
