"""What became of the runs of a rule, counted from their rows: the same for every store, pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from remediator.incident import Incident
from remediator.run import LIVE, State
from remediator.store import Tally

RUNS = 5000
"""As many of the newest runs of a rule are counted."""
LOOKED = 200_000
"""As many of the newest runs of all rules are looked through for them."""
COLUMNS = (
    "r.state, r.reason, r.created_at, r.updated_at, i.opened_at, i.ended_at,"
    " CASE WHEN r.state = 'observed' THEN i.members END,"
    " r.state = 'succeeded' AND EXISTS"
    " (SELECT 1 FROM effect AS e WHERE e.run_id = r.id AND e.closing = 0 AND e.state = 'done')"
)
"""What is read of each run ``r`` and its incident ``i``."""

_LIVE = frozenset(state.value for state in LIVE)


def tally(rows: Sequence[Sequence[Any]]) -> Tally:
    """The figures of the runs in rows of COLUMNS, newest first."""
    kinds: Counter[str] = Counter()
    alone: list[float] = []
    fixed: list[float] = []
    for state, reason, _, updated, opened, ended, members, acted in rows:
        kind = _kind(state, reason, bool(acted))
        kinds[kind] += 1
        if kind == "fixed":
            fixed.append(updated - opened)
        # A life that was cut short by the next one has not been seen to go.
        elif kind == "observed" and ended is not None and not _lost(members):
            alone.append(ended - opened)
    return Tally(
        matched=len(rows),
        observed=kinds["observed"],
        self_resolved=len(alone),
        self_resolved_after=median(alone) if alone else None,
        fixed=kinds["fixed"],
        fixed_after=median(fixed) if fixed else None,
        done=kinds["done"],
        nothing_to_do=kinds["nothing_to_do"],
        ineffective=kinds["ineffective"],
        failed=kinds["failed"],
        denied=kinds["denied"],
        expired=kinds["expired"],
        cancelled=kinds["cancelled"],
        needs_human=kinds["needs_human"],
        live=kinds["live"],
        since=min((row[2] for row in rows), default=None),
    )


def _kind(state: str, reason: str, acted: bool) -> str:
    if state in _LIVE:
        return "live"
    if state == State.SUCCEEDED:
        if not acted:
            return "nothing_to_do"
        return "fixed" if reason in ("verified", "resolved") else "done"
    return "ineffective" if (state, reason) == (State.FAILED, "ineffective") else state


def _lost(members: str) -> bool:
    return any(member.lost for member in Incident.read_members(json.loads(members)).values())
