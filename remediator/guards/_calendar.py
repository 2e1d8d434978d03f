"""Intervals of local time as Alertmanager's ``time_intervals`` write them, and whether an instant lies in one.

Grammar and meaning: https://prometheus.io/docs/alerting/latest/configuration/#time_interval. An instant is looked at
on the wall clock of its zone, so that an hour which a zone skips never comes, and one that it repeats comes twice.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
DAY = 86400.0
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_MOMENT = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2}))?")


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name. Raises ValueError with what to write."""
    if name in ("", "Local"):
        raise ValueError("name the zone, such as Europe/Berlin: several hosts need not agree on what is local")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'"{name[:60]}" is no time zone; write an IANA name such as Europe/Berlin') from None


def _known_zone(name: str) -> str:
    zone(name)
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


def _minutes(text: str) -> int:
    if _TIME.fullmatch(text) is None:
        raise ValueError(f'"{text[:20]}" is no time; write "09:00" in quotes, up to "24:00"')
    return int(text[:2]) * 60 + int(text[3:])


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class TimeRange(_Part):
    """From ``start_time``, which is inside, to ``end_time``, which is not."""

    start_time: str = Field(description="Like \"09:00\".")
    end_time: str = Field(description="Like \"17:30\"; \"24:00\" is the end of the day.")

    @model_validator(mode="after")
    def _in_order(self) -> TimeRange:
        start, end = _minutes(self.start_time), _minutes(self.end_time)
        if start >= end:
            raise ValueError("start_time must be before end_time; for a night write two ranges, one to \"24:00\"")
        return self

    @property
    def minutes(self) -> tuple[int, int]:
        """Both ends in minutes since midnight."""
        return _minutes(self.start_time), _minutes(self.end_time)


def _range(text: object, what: str, names: Sequence[str], low: int, high: int) -> tuple[int, int]:
    """The numbers of ``"a:b"`` or ``"a"``; ``names`` stand for numbers from ``low`` on."""
    first, colon, last = str(text).strip().lower().partition(":")
    ends = [_number(word.strip(), what, names, low, high) for word in ((first, last) if colon else (first, first))]
    return ends[0], ends[1]


def _number(word: str, what: str, names: Sequence[str], low: int, high: int) -> int:
    if word in names:
        return names.index(word) + low
    if re.fullmatch(r"-?\d{1,4}", word, re.ASCII) and what != "weekday" and low <= int(word) <= high:
        return int(word)
    raise ValueError(f'"{word[:20]}" is no {what}')


def _weekdays(text: object) -> tuple[int, int]:
    ends = _range(text, "weekday", WEEKDAYS, 0, 6)
    if ends[0] > ends[1]:
        raise ValueError(f'"{text}": the week begins on sunday here; write two items, such as saturday and sunday')
    return ends


def _days(text: object) -> tuple[int, int]:
    ends = _range(text, "day of a month", (), -31, 31)
    if 0 in ends:
        raise ValueError("there is no day 0; days are 1 to 31, or -1 (the last one) to -31")
    first, last = (day if day > 0 else 32 + day for day in ends)
    if first > last or (ends[0] < 0 < ends[1]):
        raise ValueError(f'"{text}": the first day must not come after the last')
    return ends


def _months(text: object) -> tuple[int, int]:
    ends = _range(text, "month", MONTHS, 1, 12)
    if ends[0] > ends[1]:
        raise ValueError(f'"{text}": the first month must not come after the last; write two items')
    return ends


def _years(text: object) -> tuple[int, int]:
    ends = _range(text, "year", (), 1970, 9999)
    if ends[0] > ends[1]:
        raise ValueError(f'"{text}": the first year must not come after the last')
    return ends


def moment(text: str, zone: ZoneInfo) -> float:
    """The instant of a local date, or date and time. Raises ValueError."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:30]}" is no date; write "2026-12-20" or "2026-12-20 18:00" in quotes')
    return datetime(*(int(part or 0) for part in found.groups()), tzinfo=zone).timestamp()  # type: ignore[misc,arg-type]  # year to minute


class Interval(_Part):
    """Everything that is written must be so; of the items of a list one must be."""

    times: list[TimeRange] = Field(default_factory=list, description="Times of day.")
    weekdays: list[str] = Field(default_factory=list, description="Like `monday:friday` or `saturday`.")
    days_of_month: list[str | int] = Field(default_factory=list, description="Like `1:5`, or `-1` for the last day.")
    months: list[str | int] = Field(default_factory=list, description="Like `january`, `3` or `may:august`.")
    years: list[str | int] = Field(default_factory=list, description="Like `2026` or `2026:2028`.")
    location: Zone | None = Field(default=None, description="IANA time zone of this interval.")

    @field_validator("weekdays", "days_of_month", "months", "years")
    @classmethod
    def _ranges(cls, items: list[str | int], info: object) -> list[str | int]:
        read = {"weekdays": _weekdays, "days_of_month": _days, "months": _months, "years": _years}
        for item in items:
            read[info.field_name](item)  # type: ignore[attr-defined]  # pydantic passes what it knows of the field
        return items

    @model_validator(mode="after")
    def _some(self) -> Interval:
        if not self.bounded:
            raise ValueError("an interval without times, weekdays, days_of_month, months or years is always")
        return self

    @property
    def bounded(self) -> bool:
        """Whether anything is said."""
        return bool(self.times or self.weekdays or self.days_of_month or self.months or self.years)

    def holds(self, at: float, default: ZoneInfo) -> bool:
        """Whether the instant lies inside."""
        local = datetime.fromtimestamp(at, self.zone(default))
        minute = local.hour * 60 + local.minute
        return (
            (not self.times or any(start <= minute < end for start, end in (r.minutes for r in self.times)))
            and _within(local.isoweekday() % 7, map(_weekdays, self.weekdays))
            and _within(local.month, map(_months, self.months))
            and _within(local.year, map(_years, self.years))
            and (not self.days_of_month or any(_on(local, *_days(days)) for days in self.days_of_month))
        )

    def zone(self, default: ZoneInfo) -> ZoneInfo:
        """Its zone."""
        return default if self.location is None else zone(self.location)

    def edges(self) -> set[int]:
        """Minutes of a local day at which it may begin or end; midnight is always one."""
        return {0, *(minute % 1440 for found in self.times for minute in found.minutes)}

    def instants(self, default: ZoneInfo) -> Sequence[float]:
        """Single instants at which it may begin or end."""
        return ()


def _within(value: int, ranges: Iterable[tuple[int, int]]) -> bool:
    found = list(ranges)
    return not found or any(low <= value <= high for low, high in found)


def _on(local: datetime, first: int, last: int) -> bool:
    length = calendar.monthrange(local.year, local.month)[1]
    low, high = (day if day > 0 else length + day + 1 for day in (first, last))
    return low <= length and max(low, 1) <= local.day <= min(high, length)


class Freeze(Interval):
    """An interval in which nothing is changed, with a date of begin or end, and why."""

    from_: str | None = Field(default=None, alias="from", description="The first day, or day and time: `2026-12-20`.")
    until: str | None = Field(default=None, description="When it is over: `2027-01-04`, or with a time.")
    reason: str = Field(default="", max_length=200, description="Why; shown with every run that it holds.")

    @model_validator(mode="after")
    def _dates(self) -> Freeze:
        utc = ZoneInfo("UTC")
        dates = [moment(text, utc) for text in (self.from_, self.until) if text is not None]
        if len(dates) == 2 and dates[0] >= dates[1]:
            raise ValueError("from must be before until")
        return self

    @property
    def bounded(self) -> bool:
        """Whether anything is said."""
        return super().bounded or self.from_ is not None or self.until is not None

    def holds(self, at: float, default: ZoneInfo) -> bool:
        """Whether the instant lies inside; ``from`` does, ``until`` does not."""
        place = self.zone(default)
        begun = self.from_ is None or at >= moment(self.from_, place)
        return begun and (self.until is None or at < moment(self.until, place)) and super().holds(at, default)

    def instants(self, default: ZoneInfo) -> Sequence[float]:
        """Its dates."""
        return [moment(text, self.zone(default)) for text in (self.from_, self.until) if text is not None]


def edges(intervals: Sequence[Interval], default: ZoneInfo, start: float, end: float) -> list[float]:
    """Every instant after ``start``, up to ``end``, at which one of the intervals may begin or end, rising.

    ``end`` is at most a day after ``start``, so that the clock of a zone changes at most once in between.
    """
    found: set[float] = set()
    for interval in intervals:
        place = interval.zone(default)
        found.update(interval.instants(default), _local(interval.edges(), place, start, end))
        before, after = (_offset(at, place) for at in (start, end))
        if before != after:
            found.add(_changes(place, start, end))
    return sorted(at for at in found if start < at <= end)


def _local(minutes: Iterable[int], place: ZoneInfo, start: float, end: float) -> Iterator[float]:
    first, last = (datetime.fromtimestamp(at, place).date() for at in (start, end))
    for days in range((last - first).days + 1):
        day: date = first + timedelta(days=days)
        for minute in minutes:
            for fold in (0, 1):
                clock = time(minute // 60, minute % 60, tzinfo=place, fold=fold)
                yield datetime.combine(day, clock).timestamp()


def _offset(at: float, place: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(place).utcoffset()


def _changes(place: ZoneInfo, start: float, end: float) -> float:
    """The second at which the clock of a zone changes between two instants with different offsets."""
    low, high, before = int(start), int(end) + 1, _offset(start, place)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, place) == before else (low, middle)
    return float(high)
