"""What goes wrong when: a plan that follows from a seed alone, so that a bad night can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass

LEASE = 5.0
"""Seconds of the lease of every replica; ``worker.lease`` may not be shorter."""
REPLICAS = 3


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One bad thing. ``at`` and ``lasts`` are seconds; ``lasts`` is how long it stays bad before it is mended."""

    at: float
    place: str
    """``replica0`` and so on, ``postgres``, ``redis``, ``rules`` or ``people``."""
    kind: str
    lasts: float

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.place:9} {self.kind:8} {self.lasts:.1f} s"


_KINDS: dict[str, list[tuple[str, tuple[float, ...]]]] = {
    # Shorter than the lease, about as long, and longer: whoever wakes up then must begin nothing on an old licence.
    "replica": [("kill", (0.0, 0.5, 2.0)), ("stop", (LEASE + 1.5, LEASE + 3.0)), ("kill", (0.0, 1.0)),
                ("stop", (0.3, 1.0, LEASE - 0.5)), ("end", (0.0, 0.5))],
    "postgres": [("crash", (0.0, 1.0, 3.0)), ("freeze", (1.0, 4.0, LEASE + 1.0))],
    "redis": [("flush", (0.0,)), ("freeze", (0.5, 2.0, 4.0)), ("kill", (0.0, 1.0, 3.0))],
    "rules": [("reload", (0.0,)), ("edit", (0.0,))],
    "people": [("pause", (0.5, 1.5, 3.0))],
}  # fmt: skip
_EVERY = {
    "replica": (6.0, 16.0),
    "postgres": (12.0, 30.0),
    "redis": (5.0, 15.0),
    "rules": (5.0, 15.0),
    "people": (8.0, 20.0),
}
"""How much time lies between the beginnings of two faults at one place."""


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run of ``seconds``, by time. The same seed and length give the same plan.

    Places suffer side by side. At each place every kind of fault has its turn before one comes again, and there is a
    first one early, so that a short run has all places, too.
    """
    faults: list[Fault] = []
    for place in (*(f"replica{number}" for number in range(REPLICAS)), "postgres", "redis", "rules", "people"):
        family = place.rstrip("0123456789")
        # A place has dice of its own: what is changed about one leaves the others as they were.
        dice = random.Random(f"{seed} {place}")
        shortest, longest = _EVERY[family]
        at, hand = dice.uniform(1.0, min(shortest, seconds / 4)), list[tuple[str, tuple[float, ...]]]()
        while at < seconds - 1.0:
            if not hand:
                hand = dice.sample(_KINDS[family], len(_KINDS[family]))
            kind, lengths = hand.pop()
            lasts = dice.choice(lengths)
            faults.append(Fault(at=round(at, 1), place=place, kind=kind, lasts=lasts))
            at += lasts + dice.uniform(shortest, longest) * min(1.0, seconds / 60)
    return sorted(faults, key=lambda fault: (fault.at, fault.place))
