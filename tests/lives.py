"""A model of alerts and of how Alertmanager tells of them: true lives, and the notices that arrive of each.

Two reporters may give one life two starts; every notice may come twice, late, or before the one it follows. The
tests of incidents compare what the notices were taken for with the lives that there really were.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from remediator.alert import Alert
from remediator.incident import HISTORY, Incident, Notice, Seen, identity, observe

TOLERANCE = 60.0
KEY = "the key of the problem"


class Life(NamedTuple):
    """One true life of one alert. ``starts`` are what its reporters say, all between its start and its end."""

    name: str
    number: int
    starts: tuple[float, ...]
    end: float


class Told(NamedTuple):
    """A notice on its way: which life it is about, what it says, and when it arrives."""

    at: float
    life: Life
    firing: bool
    start: float


def lives_of(
    name: str, shape: Iterable[tuple[float, float, float]], *, begin: float = 1_000_000.0, jitter: bool = True
) -> list[Life]:
    """Lives one after the other: ``shape`` gives the gap before each, its length, and the second reporter's delay."""
    found, at = [], begin
    for number, (gap, length, delay) in enumerate(shape):
        start = at + gap
        end = start + length
        second = min(start + delay, end)
        found.append(Life(name, number, (start, second) if jitter else (start,), end))
        at = end
    return found


def straight(lives: Sequence[Life]) -> list[Told]:
    """Every notice once and in the order of the truth."""
    told = [Told(life.starts[0], life, True, life.starts[0]) for life in lives]
    told += [Told(life.end, life, False, life.starts[0]) for life in lives]
    return sorted(told, key=lambda one: (one.at, one.firing))


def disturbed(lives: Sequence[Life], dice: random.Random, late: float) -> list[Told]:
    """Notices as two Alertmanagers send them: repeated, doubled, and delayed by up to ``late`` seconds."""
    told = []
    for life in lives:
        for firing, at in ((True, life.starts[0]), (False, life.end)):
            for _ in range(dice.choice((1, 1, 2, 3))):
                delay = dice.choice((0.0, 0.0, dice.uniform(0, late)))
                told.append(Told(at + delay, life, firing, dice.choice(life.starts)))
    return sorted(told, key=lambda one: one.at)


@dataclass
class Reader:
    """Feeds notices to ``observe`` and keeps the history as a store would."""

    history: list[Incident] = field(default_factory=list)
    made: int = 0
    openings: dict[tuple[str, int], int] = field(default_factory=dict)
    """How often a notice of a life (name, number) opened an incident."""

    def _new_id(self) -> str:
        self.made += 1
        return f"i{self.made:06}"

    def take(self, told: Told) -> Seen:
        """What one notice meant."""
        labels = {"alertname": "Down", "instance": told.life.name}
        member, _ = identity(labels, ())
        alert = Alert(told.firing, labels, {}, told.start, None if told.firing else told.life.end)
        seen = observe(
            self.history[:HISTORY],
            alert,
            member=member,
            key=KEY,
            labels={"alertname": "Down"},
            new_id=self._new_id,
            now=told.at,
            tolerance=TOLERANCE,
        )
        for incident in (seen.superseded, seen.incident):
            if incident is not None:
                self._keep(incident)
        if seen.notice is Notice.NEW:
            about = told.life.name, told.life.number
            self.openings[about] = self.openings.get(about, 0) + 1
        return seen

    def _keep(self, incident: Incident) -> None:
        for position, known in enumerate(self.history):
            if known.id == incident.id:
                self.history[position] = incident
                return
        self.history.insert(0, incident)

    def open(self) -> list[Incident]:
        """The incidents that are open."""
        return [incident for incident in self.history if incident.open]


def in_order(notices: Sequence[Told]) -> Iterator[Life]:
    """The lives of one alert whose first firing notice came in time, so that each must have been opened.

    In time means: before its own end was told and before any later life was; and the life before it had been told to
    be over, or began so much earlier that the two starts cannot be taken for one.
    """
    started: dict[int, float] = {}
    ended: set[int] = set()
    for told in notices:
        number = told.life.number
        if told.firing and number not in started:
            later = any(other > number for other in [*started, *ended])
            unclear = [other for other in started if other < number and other not in ended]
            close = any(told.start <= started[other] + TOLERANCE for other in unclear)
            if not later and number not in ended and not close:
                yield told.life
        if told.firing:
            started[number] = max(told.start, started.get(number, told.start))
        else:
            ended.add(number)
