"""What guards keep durably and ask of the ledger, decided once for every store: openings, ends, and their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remediator.audit import Entry
from remediator.facts import GuardState, PastRun

SYSTEM = "remediator"
FORGET = 86400.0
"""Announcements are kept this many seconds after they ended, for runs that began meanwhile and still wait."""

COLUMNS: Mapping[str, str] = {"rule": "rule", "service": "rule", "incident": "incident_key", "target": "target"}
"""Whose runs → the column of the ledger; ``global`` has none."""


def opened(before: GuardState | None, wanted: GuardState, now: float) -> tuple[GuardState, Entry | None]:
    """The state after an opening, and the record if it is news; the same state as before if nothing is to be written.

    What is open is only lengthened, and what was closed after the caller looked stays closed.
    """
    if before is not None and not before.open and before.since > wanted.since:
        return before, None
    if before is not None and before.open:
        if wanted.until is None or (before.until is not None and before.until >= wanted.until):
            return before, None
        return before._replace(until=wanted.until), None
    state = wanted._replace(open=True, since=now)
    detail = {"guard": state.guard, "scope": state.scope, "until": state.until, "why": state.why}
    return state, Entry(event="guard.opened", actor=state.actor, detail=detail)


def closed(before: GuardState, actor: str, reason: str, now: float) -> tuple[GuardState, Entry]:
    """The state after its end: ``guard.released`` by a person, ``guard.closed`` by itself."""
    state = before._replace(open=False, since=now, until=None, why=reason, actor=actor)
    event = "guard.closed" if actor == SYSTEM else "guard.released"
    detail = {"guard": state.guard, "scope": state.scope, "reason": reason, "was": before.why}
    return state, Entry(event=event, actor=actor, detail=detail)


def past_runs(rows: Iterable[Sequence[Any]], most: int) -> list[PastRun]:
    """Rows of licences (run, rule, state, reason, licensed_at, over_at) as runs, those that go on first."""
    found: dict[str, PastRun] = {}
    for row in rows:
        run = PastRun(*row)
        known = found.get(run.run_id)
        first = run.licensed_at if known is None else min(known.licensed_at, run.licensed_at)
        found[run.run_id] = run._replace(licensed_at=first)
    runs = sorted(found.values(), key=lambda run: (run.over_at is None, run.over_at or run.licensed_at), reverse=True)
    return runs[:most]
