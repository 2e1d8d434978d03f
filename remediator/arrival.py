"""What a batch of deliveries means for incidents and runs: pure, so that every store decides alike.

A store loads the newest incidents of every key in the batch, calls ``settle``, and writes what it returns in one
transaction together with the audit entries. Only then may the sender be told 200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from remediator.alert import Alert, Delivery
from remediator.audit import Entry
from remediator.incident import HISTORY, Incident, Notice, observe
from remediator.run import Lock, Run, State


class RuleRef(NamedTuple):
    """What intake must know of a rule that matches: enough to queue a run, nothing that could refuse."""

    rule: str
    digest: str
    mode: str
    locks: tuple[Lock, ...]
    wait: float
    """``when.for`` in seconds: the run is due this long after the incident's first start."""


class Sighting(NamedTuple):
    """One alert seen under one incident key, with the rules that answer it there."""

    alert: Alert
    member: str
    key: str
    labels: Mapping[str, str]
    rules: tuple[RuleRef, ...]


class Arrival(NamedTuple):
    """A delivery that was read and matched, ready to be committed."""

    delivery: Delivery
    source: str
    received_at: float
    sightings: tuple[Sighting, ...]
    unmatched: int


class Receipt(NamedTuple):
    """What a committed delivery led to: the runs it opened, and how many alerts meant what (Notice → count)."""

    delivery_id: str
    runs: tuple[str, ...]
    notices: Mapping[str, int]
    alerts: int
    """How many alerts the delivery held, matched or not."""


@dataclass(slots=True)
class Settled:
    """Everything a store must write for a batch, in this order."""

    opened: dict[str, Incident] = field(default_factory=dict)
    changed: dict[str, Incident] = field(default_factory=dict)
    """Incidents whose row must be written again."""
    seen: dict[str, float] = field(default_factory=dict)
    """Incidents of which only the time of the last notice changed."""
    closed: dict[str, str] = field(default_factory=dict)
    """Incident id → why (``resolved`` or ``superseded``): their runs that have not started are cancelled."""
    runs: list[Run] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


def settle(
    arrivals: Sequence[Arrival],
    histories: dict[str, list[Incident]],
    new_id: Callable[[], str],
    now: float,
    tolerance: float,
) -> Settled:
    """What the ``arrivals`` mean, in their order, given the newest incidents by key (newest first).

    ``histories`` is changed in place, so that a second delivery of the same batch sees the first.
    """
    out = Settled()
    for arrival in arrivals:
        _settle_one(arrival, histories, new_id, now, tolerance, out)
    return out


def _settle_one(
    arrival: Arrival,
    histories: dict[str, list[Incident]],
    new_id: Callable[[], str],
    now: float,
    tolerance: float,
    out: Settled,
) -> None:
    delivery_id = new_id()
    counts: dict[str, int] = {}
    opened: list[str] = []
    entries: list[Entry] = []
    for sighting in arrival.sightings:
        history = histories.setdefault(sighting.key, [])
        seen = observe(
            history,
            sighting.alert,
            member=sighting.member,
            key=sighting.key,
            labels=sighting.labels,
            new_id=new_id,
            now=now,
            tolerance=tolerance,
        )
        notice, incident = seen.notice, seen.incident
        counts[notice] = counts.get(notice, 0) + 1
        if any(known is incident for known in history):
            continue  # Nothing new was said, and nothing is written.
        known = {i.id: n for n, i in enumerate(history)}
        if seen.superseded is not None:
            history[known[seen.superseded.id]] = seen.superseded
            _written(seen.superseded, out)
            out.closed[seen.superseded.id] = "superseded"
        position = known.get(incident.id)
        if position is None:
            history.insert(0, incident)
            del history[HISTORY:]
            out.opened[incident.id] = incident
        else:
            before = history[position]
            history[position] = incident
            if before.members is incident.members and before.ended_at == incident.ended_at:
                out.seen[incident.id] = now
            else:
                _written(incident, out)
        if notice is Notice.CLOSED:
            out.closed[incident.id] = "resolved"
        elif notice is Notice.NEW:
            _open_runs(sighting, incident, delivery_id, new_id, now, out, opened, entries)
    _record(arrival, delivery_id, counts, opened, out)
    out.entries += entries
    out.receipts.append(Receipt(delivery_id, tuple(opened), counts, len(arrival.delivery.alerts)))


def _written(incident: Incident, out: Settled) -> None:
    if incident.id in out.opened:
        out.opened[incident.id] = incident
    else:
        out.changed[incident.id] = incident


def _open_runs(
    sighting: Sighting,
    incident: Incident,
    delivery_id: str,
    new_id: Callable[[], str],
    now: float,
    out: Settled,
    opened: list[str],
    entries: list[Entry],
) -> None:
    for ref in sighting.rules:
        due = max(now, incident.opened_at + ref.wait) if ref.wait else now
        run = Run(
            id=new_id(),
            rule=ref.rule,
            rule_digest=ref.digest,
            incident_id=incident.id,
            state=State.QUEUED,
            reason="matched",
            message="the alert fires and the rule matches",
            mode=ref.mode,
            epoch=0,
            version=1,
            owner="",
            lease_until=0.0,
            wake_at=due,
            created_at=now,
            updated_at=now,
            due_at=due,
            locks=ref.locks,
        )
        out.runs.append(run)
        opened.append(run.id)
        entries.append(
            Entry(
                event="run.queued",
                actor="remediator",
                run_id=run.id,
                rule=ref.rule,
                rule_digest=ref.digest,
                detail={
                    "delivery": delivery_id,
                    "due_at": due,
                    "incident": incident.id,
                    "labels": sighting.labels,
                    "starts_at": sighting.alert.starts_at,
                },
            )
        )


def _record(arrival: Arrival, delivery_id: str, counts: Mapping[str, int], opened: list[str], out: Settled) -> None:
    delivery = arrival.delivery
    out.entries.append(
        Entry(
            event="delivery.accepted",
            actor=f"alertmanager:{arrival.source}",
            detail={
                "alerts": len(delivery.alerts),
                "body_sha256": delivery.digest,
                "delivery": delivery_id,
                "external_url": delivery.external_url,
                "group_key": delivery.group_key,
                "notices": counts,
                "receiver": delivery.receiver,
                "runs": opened,
                "truncated": delivery.truncated,
                "unmatched": arrival.unmatched,
            },
        )
    )
