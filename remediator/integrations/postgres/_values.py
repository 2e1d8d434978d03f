"""Values of PostgreSQL as JSON, bounded and without what gives itself away as secret."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from remediator.clock import format_instant
from remediator.redact import redact_text

_LONGEST = 4096
HIDDEN = "[hidden]"
"""What stands for the values of columns that the operator hides."""


def bounded(text: str, longest: int = _LONGEST) -> str:
    """``text`` without secrets, and then cut: a number that was cut first would not be known for what it is."""
    clean = redact_text(text).replace("\x00", "\ufffd")
    return clean if len(clean) <= longest else clean[:longest] + "…"


def as_json(value: Any) -> Any:
    """One value: numbers stay numbers, times become RFC 3339 or seconds, everything else text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Decimal | float):
        return _number(value)
    if isinstance(value, date | time | timedelta):
        return _time(value)
    if isinstance(value, list | tuple):
        return [as_json(each) for each in list(value)[:100]]
    return bounded("\\x" + value.hex() if isinstance(value, bytes) else str(value))


def _time(value: date | time | timedelta) -> str | float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_instant(value.timestamp())
    # A time without its zone is no instant, and is left as it stands.
    return value.isoformat()


def _number(value: Decimal | float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)


def row(record: Mapping[str, Any], hide: Collection[str] = ()) -> dict[str, Any]:
    """One row by the names of its columns."""
    return {name: HIDDEN if name in hide else as_json(value) for name, value in record.items()}
