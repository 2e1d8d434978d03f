"""Where identifiers come from: 26 letters that sort by time of making, 48 bits of time and 80 random, like ULIDs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
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
    """Identifiers from the clock and the operating system's randomness; rising within one process.

    ``randomness`` gives that many random bytes; a simulation gives it a seed.
    """

    def __init__(self, clock: Clock, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._randomness = randomness
        self._millisecond, self._low = 0, 0
        self._prefix = _encode_time(0)
        self._random, self._at = b"", 0
        # A store makes identifiers in its own thread and the engine in another one.
        self._alone = threading.Lock()

    def __call__(self) -> str:
        """A new identifier; within one millisecond, or if the clock goes back, the last one plus a random step."""
        with self._alone:
            millisecond = int(self._clock.now() * 1000)
            if millisecond > self._millisecond:
                self._begin(millisecond, self._take(10))
            else:
                self._low += 1 + self._take(4)
                if self._low >> 80:
                    self._begin(self._millisecond + 1, self._take(10))
            return self._prefix + _encode(self._low)

    def _begin(self, millisecond: int, low: int) -> None:
        self._millisecond, self._low = millisecond, low
        self._prefix = _encode_time(millisecond)

    def _take(self, size: int) -> int:
        # Every call of the operating system lets another thread run first: one call serves many identifiers.
        if self._at + size > len(self._random):
            self._random, self._at = self._randomness(4096), 0
        self._at += size
        return int.from_bytes(self._random[self._at - size : self._at], "big")


def _encode(low: int) -> str:
    """80 bits as 16 letters."""
    pairs = _PAIRS
    return (
        f"{pairs[low >> 70]}{pairs[low >> 60 & 1023]}{pairs[low >> 50 & 1023]}{pairs[low >> 40 & 1023]}"
        f"{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def _encode_time(millisecond: int) -> str:
    """48 bits as 10 letters."""
    return "".join(_PAIRS[millisecond >> shift & 1023] for shift in (40, 30, 20, 10, 0))
