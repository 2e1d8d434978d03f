"""Where identifiers come from: 26 letters that sort by time of making, 48 bits of time and 80 random, like ULIDs."""

from __future__ import annotations

import os
import threading
from typing import Protocol

from remediator.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u.
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class Ids(Protocol):
    """Makes identifiers; each call gives a new one that sorts after those before it."""

    def __call__(self) -> str:
        """A new identifier of 26 letters and digits."""
        ...


class SystemIds:
    """Identifiers from the clock and the operating system's randomness; rising within one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        # A store makes identifiers in its own thread and the engine in another one.
        self._alone = threading.Lock()

    def __call__(self) -> str:
        """A new identifier; if the clock stands still or goes back, the last one plus a random step."""
        value = int(self._clock.now() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
        with self._alone:
            if value <= self._last:
                value = self._last + 1 + int.from_bytes(os.urandom(4), "big")
            self._last = value
        return _encode(value)


def _encode(value: int) -> str:
    pairs = _PAIRS
    parts = []
    for _ in range(13):
        value, low = divmod(value, 1024)
        parts.append(pairs[low])
    return "".join(reversed(parts))
