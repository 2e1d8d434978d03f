"""One life of one problem: alerts grouped by key, starts clustered, and what each new notice means for it.

Alertmanager is at-least-once, may reorder, and merges overlapping reports so that one life carries several
``startsAt``. A fingerprint with its ``startsAt`` is therefore no identity; here a start within ``tolerance`` of a
life's known starts is that life. Pure: stores load and keep what these functions return.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from remediator.action import canonical_json
from remediator.alert import Alert

HISTORY = 20
"""How many of a key's newest incidents are looked at to tell an old life from a new one."""

SEEN_WITHIN = 10.0
"""``seen_at`` may be this many seconds old: what peers and retries say again at once is not written again."""


class Notice(StrEnum):
    """What one alert of a delivery meant."""

    NEW = "new"
    """The first firing notice of a new life: an incident opens, and a run for every rule that matches."""
    JOINED = "joined"
    """A further alert of an incident that is open."""
    REPEAT = "repeat"
    """A life that is already known, told again."""
    STALE = "stale"
    """A notice of a life that has ended, or of one older than what is known: starts nothing and ends nothing."""
    RESOLVED = "resolved"
    """An alert ended and others of its incident still fire."""
    CLOSED = "closed"
    """The last firing alert of the incident ended."""


@dataclass(frozen=True, slots=True)
class Member:
    """One alert of an incident: its labels, its cluster of starts, and when it ended (None while it fires)."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    min_start: float
    max_start: float
    ended_at: float | None = None
    lost: bool = False
    """Whether nobody told that it ended: it was over only because the same alert began again."""

    def holds(self, start: float, tolerance: float) -> bool:
        """Whether a notice that starts at ``start`` belongs to this life.

        A start after the end is a new life however near it is, or a real relapse would be taken for an echo.
        """
        if self.ended_at is not None and start > self.ended_at:
            return False
        return self.min_start - tolerance <= start <= self.max_start + tolerance


@dataclass(frozen=True, slots=True)
class Incident:
    """One life of one problem. ``key`` names the problem, ``members`` the alerts by identity."""

    id: str
    key: str
    labels: Mapping[str, str]
    members: Mapping[str, Member]
    opened_at: float
    seen_at: float
    ended_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether the problem still exists as far as Alertmanager has told."""
        return self.ended_at is None

    def members_json(self) -> str:
        """The members as JSON text for a store."""
        return canonical_json(
            {
                name: [m.labels, m.annotations, m.min_start, m.max_start, m.ended_at, *([True] if m.lost else [])]
                for name, m in self.members.items()
            }
        )

    @staticmethod
    def read_members(data: Mapping[str, Sequence[Any]]) -> dict[str, Member]:
        """Members from the parsed JSON that ``members_json`` wrote."""
        return {name: Member(*m) for name, m in data.items()}

    @property
    def superseded(self) -> bool:
        """Whether it was over only because the problem began again: nothing shows that it ever went away."""
        return any(member.lost for member in self.members.values())

    def firing(self) -> list[Member]:
        """The members that still fire."""
        return [member for member in self.members.values() if member.ended_at is None]

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations that all members share; for one alert, all of them."""
        return _shared([member.annotations for member in self.members.values()])

    @property
    def common_labels(self) -> Mapping[str, str]:
        """The labels that all members share, and the labels that make the group."""
        return {**_shared([member.labels for member in self.members.values()]), **self.labels}


def _shared(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if not maps:
        return {}
    first, *rest = maps
    return {name: text for name, text in first.items() if all(other.get(name) == text for other in rest)}


def identity(labels: Mapping[str, str], drop: Collection[str]) -> tuple[str, dict[str, str]]:
    """SHA-256 (hex) over the labels without ``drop``, and those labels.

    Never Alertmanager's fingerprint: that is 64-bit FNV-1a, and collisions can be made on purpose.
    """
    kept = {name: text for name, text in labels.items() if name not in drop} if drop else dict(labels)
    return hashlib.sha256(canonical_json(kept).encode()).hexdigest(), kept


def group_identity(rule: str, labels: Mapping[str, str], group_by: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Key and labels of an incident of a rule that says ``group_by``; a missing label is an empty one.

    The rule is part of the key: two rules that group by the same labels are about two problems.
    """
    kept = {name: labels.get(name, "") for name in sorted(group_by)}
    text = canonical_json([rule, kept])
    return hashlib.sha256(text.encode()).hexdigest(), kept


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer of ``observe``: what it meant, the incident as it is now, and one that it superseded."""

    notice: Notice
    incident: Incident
    superseded: Incident | None = None


class _Case(NamedTuple):
    """A notice and all that decides what it means."""

    history: Sequence[Incident]
    alert: Alert
    member: str
    key: str
    labels: Mapping[str, str]
    new_id: Callable[[], str]
    now: float
    tolerance: float

    def latest(self) -> Incident | None:
        """The newest incident that knows this alert."""
        return next((incident for incident in self.history if self.member in incident.members), None)

    def current(self) -> Incident | None:
        """The incident that is open; there is at most one."""
        return next((incident for incident in self.history if incident.open), None)

    def opened(self, first: Member) -> Incident:
        """A new incident that begins with ``first``."""
        return Incident(self.new_id(), self.key, self.labels, {self.member: first}, first.min_start, self.now)


def observe(
    history: Sequence[Incident],
    alert: Alert,
    *,
    member: str,
    key: str,
    labels: Mapping[str, str],
    new_id: Callable[[], str],
    now: float,
    tolerance: float,
) -> Seen:
    """What ``alert`` means, given the newest incidents of its key (newest first, at most HISTORY).

    ``member`` is the alert's identity. Nothing is read or written; ``new_id`` is called if an incident opens.
    """
    if alert.firing and history and history[0].open:
        # Most of what ever comes: the latest life, told again.
        known = history[0].members.get(member)
        if known is not None and known.ended_at is None and known.min_start <= alert.starts_at <= known.max_start:
            return Seen(Notice.REPEAT, _widen(history[0], member, known, alert.starts_at, now))
    case = _Case(history, alert, member, key, labels, new_id, now, tolerance)
    return _firing(case) if alert.firing else _resolved(case)


def _firing(case: _Case) -> Seen:
    alert, start, member = case.alert, case.alert.starts_at, case.member
    for incident in case.history:
        known = incident.members.get(member)
        if known is not None and known.holds(start, case.tolerance):
            if known.ended_at is not None or not incident.open:
                return Seen(Notice.STALE, incident)
            return Seen(Notice.REPEAT, _widen(incident, member, known, start, case.now))
    latest = case.latest()
    if latest is not None and start < latest.members[member].min_start:
        return _earlier(case, latest)
    fresh = Member(alert.labels, alert.annotations, start, start)
    current = case.current()
    if current is None:
        return Seen(Notice.NEW, case.opened(fresh))
    others = any(name != member for name, m in current.members.items() if m.ended_at is None)
    if member not in current.members or others:
        return Seen(Notice.JOINED, _with(current, member, fresh, case.now))
    # The same alert began again and nobody told us that its earlier life ended: that life is over.
    over = replace(current, ended_at=start, members=_ended(current.members, start), seen_at=case.now)
    return Seen(Notice.NEW, case.opened(fresh), over)


def _earlier(case: _Case, latest: Incident) -> Seen:
    # Older than all we know of this alert: either its present life began earlier than told, or it is long over.
    start, member = case.alert.starts_at, case.member
    known = latest.members[member]
    lives = [incident.members[member] for incident in case.history if member in incident.members]
    ended_after = any(life.ended_at is not None and life.ended_at > start for life in lives)
    if latest.open and known.ended_at is None and not ended_after:
        return Seen(Notice.REPEAT, _widen(latest, member, known, start, case.now))
    return Seen(Notice.STALE, latest)


def _resolved(case: _Case) -> Seen:
    alert, start, member = case.alert, case.alert.starts_at, case.member
    ended = max(start, alert.ends_at if alert.ends_at is not None else case.now)
    for incident in case.history:
        known = incident.members.get(member)
        if known is None:
            continue
        # Alertmanager keeps the earliest start when it merges reports, so the start of an end says little. Its own
        # time says all: an end before the latest known start is that of an earlier life, however near the starts are.
        if known.ended_at is None and ended >= known.max_start:
            low, high = min(known.min_start, start), max(known.max_start, start)
            over = Member(known.labels, alert.annotations or known.annotations, low, high, ended)
            after = _with(incident, member, over, case.now)
            if after.firing():
                return Seen(Notice.RESOLVED, after)
            last = max(m.ended_at or 0.0 for m in after.members.values())
            return Seen(Notice.CLOSED, replace(after, ended_at=last))
        if known.ended_at is not None and known.holds(start, case.tolerance):
            return Seen(Notice.STALE, incident)
    return _ended_unseen(case, Member(alert.labels, alert.annotations, start, start, ended))


def _ended_unseen(case: _Case, gone: Member) -> Seen:
    # The end came before the beginning: keep it, so that the late firing notice is known to be stale.
    latest, current = case.latest(), case.current()
    if latest is not None:
        known = latest.members[case.member]
        if known.ended_at is None or gone.min_start < known.min_start:
            return Seen(Notice.STALE, latest)  # A firing notice of that life is stale or a repeat in any case.
    if current is not None:
        return Seen(Notice.STALE, replace(current, members={**current.members, case.member: gone}, seen_at=case.now))
    return Seen(Notice.STALE, replace(case.opened(gone), ended_at=gone.ended_at))


def _with(incident: Incident, member: str, value: Member, now: float) -> Incident:
    return replace(
        incident,
        members={**incident.members, member: value},
        opened_at=min(incident.opened_at, value.min_start),
        seen_at=now,
    )


def _widen(incident: Incident, member: str, known: Member, start: float, now: float) -> Incident:
    if known.min_start <= start <= known.max_start:
        return incident if now - incident.seen_at < SEEN_WITHIN else replace(incident, seen_at=now)
    wider = replace(known, min_start=min(known.min_start, start), max_start=max(known.max_start, start))
    return _with(incident, member, wider, now)


def _ended(members: Mapping[str, Member], at: float) -> dict[str, Member]:
    return {n: m if m.ended_at is not None else replace(m, ended_at=at, lost=True) for n, m in members.items()}
