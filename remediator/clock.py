"""The only place that reads the time, and the words for it.

Instants are Unix seconds (UTC) as ``float``; durations are seconds as ``float``. Text forms are RFC 3339
with ``Z`` and Prometheus durations (``1h30m``), made and read only here.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from remediator.errors import InputError


class Clock(Protocol):
    """Reads time. ``now`` may jump with the host's clock; ``monotonic`` never goes backwards."""

    def now(self) -> float:
        """Unix seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; for deadlines inside one process only."""
        ...


class SystemClock:
    """The host's clocks."""

    def now(self) -> float:
        """Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
# Prometheus' grammar: each unit at most once and from large to small (prometheus/common model.ParseDuration).
_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
_ORDER = ("y", "w", "d", "h", "m", "s", "ms")


@lru_cache(maxsize=4096)
def parse_duration(text: str) -> float:
    """Seconds of a Prometheus duration such as ``30s``, ``5m`` or ``1h30m``; ``0`` is zero.

    Raises InputError with what to write instead.
    """
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text) if text and len(text) <= 40 else None
    if match is None:
        raise InputError(f'"{text[:40]}" is not a duration; write a number and a unit, like 30s, 5m or 1h30m')
    return sum(int(n) * _UNITS[unit] for n, unit in zip(match.groups(), _ORDER, strict=True) if n)


def format_duration(seconds: float) -> str:
    """The shortest Prometheus duration for ``seconds``, rounded to milliseconds; ``0s`` for nothing.

    A clock that was set back can make a negative one, which gets a minus and is for people only.
    """
    left, parts = round(abs(seconds) * 1000), []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        size = round(_UNITS[unit] * 1000)
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if seconds < 0 and parts else "") + ("".join(parts) or "0s")


_FIRST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() + 0.999


def format_instant(at: float) -> str:
    """RFC 3339 in UTC with microseconds, such as ``2026-11-20T21:36:54.618000Z``."""
    # Not strftime, which writes the year of Go's zero time as "1".
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=4096)
def parse_instant(text: str) -> float:
    """Unix seconds of an RFC 3339 instant, which must name its offset (``Z`` or ``+01:00``).

    Raises InputError.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    at = math.nan if moment is None or moment.tzinfo is None else moment.timestamp()
    # An offset can move the ends of the calendar into years that nobody can write.
    if not _FIRST <= at <= _LAST:
        raise InputError(f'"{text[:40]}" is not an RFC 3339 time such as 2026-11-20T21:36:54Z')
    return at


def _duration(value: Any) -> float:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except InputError as error:
            raise ValueError(str(error)) from None
    raise ValueError("a duration is text with a unit, like 30s, 5m or 1h30m")


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(0|([0-9]+(ms|[smhdwy]))+)$", "examples": ["30s", "5m", "1h30m"]}),
]
"""A model field written as a Prometheus duration and read as seconds."""
