"""change_window: intervals over days, zones and both changes of the clock, and the second at which it opens again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from remediator.guard import Decision
from remediator.guards.change_window import ChangeWindow
from tests.guards.context import context

Case = tuple[str, bool]


def utc(text: str) -> float:
    """An instant by its UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(*allow: dict[str, Any], **more: Any) -> ChangeWindow:
    """A guard that allows these intervals."""
    return ChangeWindow.model_validate({"allow": list(allow), **more})


def times(start: str, end: str) -> list[dict[str, str]]:
    """One range of times."""
    return [{"start_time": start, "end_time": end}]


NINE_TO_FIVE = {"times": times("09:00", "17:00")}
NIGHT = {"times": times("02:00", "03:00")}

# Zone, interval, and instants in UTC with what is right: written down by hand from the rules of the zones.
TABLE: list[tuple[str, dict[str, Any], list[Case]]] = [
    # Berlin springs from 02:00 to 03:00 (01:00 UTC) on 2027-03-28: 02:00 to 03:00 never comes that day.
    ("Europe/Berlin", NIGHT, [
        ("2027-03-27T00:59:59", False), ("2027-03-27T01:00", True), ("2027-03-27T01:59:59", True),
        ("2027-03-27T02:00", False), ("2027-03-28T00:00", False), ("2027-03-28T00:59:59", False),
        ("2027-03-28T01:00", False), ("2027-03-28T01:30", False), ("2027-03-28T02:00", False),
        ("2027-03-28T23:59:59", False), ("2027-03-29T00:00", True), ("2027-03-29T00:59:59", True),
        ("2027-03-29T01:00", False)]),
    # What would begin inside the hour that is skipped begins when the clock has been changed.
    ("Europe/Berlin", {"times": times("02:30", "03:30")}, [
        ("2027-03-28T00:59:59", False), ("2027-03-28T01:00", True), ("2027-03-28T01:29:59", True),
        ("2027-03-28T01:30", False), ("2027-03-27T01:29:59", False), ("2027-03-27T01:30", True),
        ("2027-03-27T02:29:59", True), ("2027-03-27T02:30", False)]),
    # Berlin falls from 03:00 to 02:00 (01:00 UTC) on 2027-10-31: 02:00 to 03:00 comes twice, without a gap.
    ("Europe/Berlin", NIGHT, [
        ("2027-10-30T23:59:59", False), ("2027-10-31T00:00", True), ("2027-10-31T00:59:59", True),
        ("2027-10-31T01:00", True), ("2027-10-31T01:59:59", True), ("2027-10-31T02:00", False),
        ("2027-11-01T00:59:59", False), ("2027-11-01T01:00", True), ("2027-11-01T01:59:59", True),
        ("2027-11-01T02:00", False)]),
    ("Europe/Berlin", {"times": times("02:30", "02:45")}, [
        ("2027-10-31T00:29:59", False), ("2027-10-31T00:30", True), ("2027-10-31T00:44:59", True),
        ("2027-10-31T00:45", False), ("2027-10-31T01:29:59", False), ("2027-10-31T01:30", True),
        ("2027-10-31T01:44:59", True), ("2027-10-31T01:45", False)]),
    # A working day lasts as long as ever; seen from UTC it begins an hour earlier or later.
    ("Europe/Berlin", NINE_TO_FIVE, [
        ("2027-03-27T07:59:59", False), ("2027-03-27T08:00", True), ("2027-03-27T15:59:59", True),
        ("2027-03-27T16:00", False), ("2027-03-28T06:59:59", False), ("2027-03-28T07:00", True),
        ("2027-03-28T14:59:59", True), ("2027-03-28T15:00", False), ("2027-10-30T06:59:59", False),
        ("2027-10-30T07:00", True), ("2027-10-31T07:59:59", False), ("2027-10-31T08:00", True),
        ("2027-10-31T15:59:59", True), ("2027-10-31T16:00", False)]),
    # New York springs at 07:00 UTC on 2027-03-14 and falls at 06:00 UTC on 2027-11-07.
    ("America/New_York", NIGHT, [
        ("2027-03-13T06:59:59", False), ("2027-03-13T07:00", True), ("2027-03-13T08:00", False),
        ("2027-03-14T06:59:59", False), ("2027-03-14T07:00", False), ("2027-03-14T07:59:59", False),
        ("2027-03-15T06:00", True), ("2027-03-15T07:00", False)]),
    ("America/New_York", {"times": times("01:00", "02:00")}, [
        ("2027-11-07T04:59:59", False), ("2027-11-07T05:00", True), ("2027-11-07T05:59:59", True),
        ("2027-11-07T06:00", True), ("2027-11-07T06:59:59", True), ("2027-11-07T07:00", False),
        ("2027-11-08T05:59:59", False), ("2027-11-08T06:00", True)]),
    # Sydney springs at 16:00 UTC on 2027-10-02 (02:00 there on the 3rd) and falls at 16:00 UTC on 2027-04-03.
    ("Australia/Sydney", NIGHT, [
        ("2027-10-01T15:59:59", False), ("2027-10-01T16:00", True), ("2027-10-02T15:59:59", False),
        ("2027-10-02T16:00", False), ("2027-10-02T16:30", False), ("2027-10-03T15:00", True),
        ("2027-10-03T16:00", False), ("2027-04-03T14:59:59", False), ("2027-04-03T15:00", True),
        ("2027-04-03T15:59:59", True), ("2027-04-03T16:00", True), ("2027-04-03T16:59:59", True),
        ("2027-04-03T17:00", False), ("2027-04-04T16:00", True)]),
    # London springs and falls at 01:00 UTC: 01:00 to 02:00 there is skipped in March and comes twice in October.
    ("Europe/London", {"times": times("01:00", "02:00")}, [
        ("2027-03-27T01:00", True), ("2027-03-28T00:59:59", False), ("2027-03-28T01:00", False),
        ("2027-03-29T00:00", True), ("2027-10-30T23:59:59", False), ("2027-10-31T00:00", True),
        ("2027-10-31T00:59:59", True), ("2027-10-31T01:00", True), ("2027-10-31T01:59:59", True),
        ("2027-10-31T02:00", False), ("2027-11-01T00:59:59", False), ("2027-11-01T01:00", True)]),
    # Lord Howe moves its clock by half an hour: 02:00 becomes 02:30 on 2027-10-03 (15:30 UTC the day before).
    ("Australia/Lord_Howe", {"times": times("02:00", "02:30")}, [
        ("2027-10-02T15:29:59", False), ("2027-10-02T15:30", False), ("2027-10-02T15:59:59", False),
        ("2027-10-01T15:30", True)]),
    # It falls back from 02:00 to 01:30 on 2027-04-04 (15:00 UTC the day before).
    ("Australia/Lord_Howe", {"times": times("01:30", "02:00")}, [
        ("2027-04-03T14:29:59", False), ("2027-04-03T14:30", True), ("2027-04-03T15:00", True),
        ("2027-04-03T15:29:59", True), ("2027-04-03T15:30", False)]),
    # Kathmandu is 5:45 ahead; Kiritimati is a day ahead of Honolulu.
    ("Asia/Kathmandu", NINE_TO_FIVE, [
        ("2027-06-01T03:14:59", False), ("2027-06-01T03:15", True), ("2027-06-01T11:14:59", True),
        ("2027-06-01T11:15", False)]),
    ("Pacific/Kiritimati", {"weekdays": ["friday"]}, [
        ("2027-01-14T09:59:59", False), ("2027-01-14T10:00", True), ("2027-01-15T09:59:59", True),
        ("2027-01-15T10:00", False)]),
    ("Pacific/Honolulu", {"weekdays": ["friday"]}, [
        ("2027-01-15T09:59:59", False), ("2027-01-15T10:00", True), ("2027-01-16T09:59:59", True),
        ("2027-01-16T10:00", False)]),
    # Weekdays, the week beginning on sunday. 2027-01-15 is a friday.
    ("UTC", {"weekdays": ["monday:friday"]}, [
        ("2027-01-10T12:00", False), ("2027-01-11T00:00", True), ("2027-01-12T12:00", True), ("2027-01-13T12:00", True),
        ("2027-01-14T12:00", True), ("2027-01-15T23:59:59", True), ("2027-01-16T00:00", False),
        ("2027-01-17T12:00", False)]),
    ("UTC", {"weekdays": ["Saturday", "sunday"]}, [
        ("2027-01-15T23:59:59", False), ("2027-01-16T00:00", True), ("2027-01-17T23:59:59", True),
        ("2027-01-18T00:00", False)]),
    ("UTC", {"weekdays": ["sunday:tuesday"]}, [
        ("2027-01-16T23:59:59", False), ("2027-01-17T00:00", True), ("2027-01-19T23:59:59", True),
        ("2027-01-20T00:00", False)]),
    # Days of the month, from both ends, in long and short months and leap years.
    ("UTC", {"days_of_month": [1]}, [
        ("2027-02-01T00:00", True), ("2027-02-02T00:00", False), ("2027-01-31T23:59:59", False)]),
    ("UTC", {"days_of_month": ["-1"]}, [
        ("2027-02-27T12:00", False), ("2027-02-28T00:00", True), ("2027-02-28T23:59:59", True),
        ("2027-03-01T00:00", False), ("2028-02-28T12:00", False), ("2028-02-29T12:00", True),
        ("2027-04-30T12:00", True), ("2027-12-31T23:59:59", True)]),
    ("UTC", {"days_of_month": ["-3:-1"]}, [
        ("2027-02-25T23:59:59", False), ("2027-02-26T00:00", True), ("2028-02-26T12:00", False),
        ("2028-02-27T00:00", True)]),
    ("UTC", {"days_of_month": ["31"]}, [
        ("2027-04-30T12:00", False), ("2027-05-01T12:00", False), ("2027-05-31T12:00", True),
        ("2027-02-28T12:00", False)]),
    ("UTC", {"days_of_month": ["28:31"]}, [
        ("2027-02-27T12:00", False), ("2027-02-28T12:00", True), ("2027-03-01T12:00", False),
        ("2027-03-31T12:00", True)]),
    ("UTC", {"days_of_month": ["15:-1"]}, [
        ("2027-02-14T23:59:59", False), ("2027-02-15T00:00", True), ("2027-02-28T23:59:59", True),
        ("2027-03-01T00:00", False)]),
    ("UTC", {"days_of_month": [29], "months": ["february"]}, [
        ("2027-02-28T12:00", False), ("2027-03-01T12:00", False), ("2028-02-29T00:00", True),
        ("2028-02-29T23:59:59", True), ("2028-03-01T00:00", False), ("2096-02-29T12:00", True),
        ("2100-03-01T00:00", False), ("2100-02-28T12:00", False)]),
    ("Asia/Tokyo", {"days_of_month": [1]}, [
        ("2027-01-31T14:59:59", False), ("2027-01-31T15:00", True), ("2027-02-01T14:59:59", True),
        ("2027-02-01T15:00", False)]),
    # Months and years.
    ("UTC", {"months": ["may:august", 12]}, [
        ("2027-04-30T23:59:59", False), ("2027-05-01T00:00", True), ("2027-08-31T23:59:59", True),
        ("2027-09-01T00:00", False), ("2027-11-30T23:59:59", False), ("2027-12-01T00:00", True),
        ("2028-01-01T00:00", False)]),
    ("UTC", {"years": ["2027:2028", 2038]}, [
        ("2026-12-31T23:59:59", False), ("2027-01-01T00:00", True), ("2028-12-31T23:59:59", True),
        ("2029-01-01T00:00", False), ("2038-01-19T03:14:07", True), ("2038-01-19T03:14:08", True),
        ("2039-01-01T00:00", False)]),
    ("Europe/Berlin", {"years": [2028]}, [
        ("2027-12-31T22:59:59", False), ("2027-12-31T23:00", True), ("2028-12-31T22:59:59", True),
        ("2028-12-31T23:00", False)]),
    # Everything together, and the ends of a day.
    ("Europe/Berlin", {"weekdays": ["friday"], "months": ["january"], **NINE_TO_FIVE}, [
        ("2027-01-15T07:59:59", False), ("2027-01-15T08:00", True), ("2027-01-15T16:00", False),
        ("2027-01-14T12:00", False), ("2027-02-05T12:00", False)]),
    ("UTC", {"times": [*times("22:00", "24:00"), *times("00:00", "04:00")]}, [
        ("2027-01-15T21:59:59", False), ("2027-01-15T22:00", True), ("2027-01-15T23:59:59", True),
        ("2027-01-16T00:00", True), ("2027-01-16T03:59:59", True), ("2027-01-16T04:00", False)]),
    # After 2037 the zones go on by their rules.
    ("Europe/Berlin", NIGHT, [
        ("2040-03-25T00:59:59", False), ("2040-03-25T01:00", False), ("2040-10-28T00:00", True),
        ("2040-10-28T01:00", True), ("2040-10-28T02:00", False)]),
]  # fmt: skip
CASES = [(zone, interval, at, inside) for zone, interval, cases in TABLE for at, inside in cases]


def test_the_table_is_long_enough() -> None:
    """Two hundred instants at least, most of them a second beside an edge."""
    assert len(CASES) >= 200


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_every_instant_of_the_table(number: int) -> None:
    """The guard allows exactly what is inside; as a freeze the same interval forbids exactly that."""
    zone, interval, cases = TABLE[number]
    allowing = window(interval, location=zone)
    freezing = ChangeWindow.model_validate({"freeze": [{**interval, "location": zone}]})
    for at, inside in cases:
        assert (allowing.closed(utc(at)) == "", at) == (inside, at)
        assert (freezing.closed(utc(at)) != "", at) == (inside, at)


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_the_end_of_a_hold_is_the_first_second_that_is_allowed(number: int) -> None:
    """At ``until`` changes are allowed, a second before they are not, and no allowed minute before it is skipped."""
    zone, interval, cases = TABLE[number]
    guard = window(interval, location=zone)
    for text, inside in cases:
        at = utc(text)
        until = guard.opens(at)
        if inside or until is None:
            continue
        assert guard.closed(until) == "" and guard.closed(until - 1) != "" and until > at
        step = max(60, int((until - at) / 200) // 60 * 60)
        assert all(guard.closed(between) for between in range(int(at), int(until), step))


def test_holds_end_right_at_random() -> None:
    """Ten zones, random intervals, random instants: the end of a hold agrees with walking minute by minute."""
    dice = random.Random(4)
    zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Africa/Casablanca",
             "America/St_Johns", "Pacific/Chatham", "America/Santiago", "Asia/Tehran"]  # fmt: skip
    for _ in range(150):
        start = dice.randrange(0, 1380, 5)
        end = min(1440, start + dice.randrange(5, 300, 5))
        span = times(f"{start // 60:02}:{start % 60:02}", f"{end // 60:02}:{end % 60:02}")
        guard = window({"times": span}, location=dice.choice(zones))
        around = dice.choice([utc("2027-03-28T00:00"), utc("2027-10-31T00:00"), utc("2027-03-14T06:00")])
        at = around + dice.randrange(-86400, 86400, 60)
        if guard.closed(at):
            slow = next(at + 60 * n for n in range(1, 3000) if not guard.closed(at + 60 * n))
            assert guard.opens(at) == slow


async def test_a_run_waits_for_the_morning() -> None:
    """Held with its reason until the second at which changes are allowed, which the message names."""
    guard = window({"weekdays": ["monday:friday"], **NINE_TO_FIVE}, location="Europe/Berlin")
    verdict = await guard.check(context(at=utc("2027-01-15T16:00")))
    assert (verdict.decision, verdict.reason) == (Decision.HOLD, "change_window")
    assert verdict.until == utc("2027-01-18T08:00")
    assert "2027-01-18T08:00:00Z" in verdict.message
    assert (await guard.check(context(at=verdict.until))).decision is Decision.ALLOW


async def test_a_freeze_has_dates_and_a_reason() -> None:
    """From its first local second to its last, whatever is allowed else; people read why."""
    freeze = {"from": "2026-12-18 12:00", "until": "2027-01-04", "reason": "end of the year"}
    guard = window(NINE_TO_FIVE, location="Europe/Berlin", freeze=[freeze])
    assert guard.closed(utc("2026-12-18T10:59:59")) == ""
    assert guard.closed(utc("2026-12-18T11:00")) == "changes are frozen: end of the year"
    verdict = await guard.check(context(at=utc("2026-12-24T12:00")))
    assert "end of the year" in verdict.message
    assert verdict.until == utc("2027-01-04T08:00")
    assert guard.closed(utc("2027-01-03T23:00")) == "it is outside the times in which changes are allowed"


async def test_a_freeze_without_an_end_is_looked_at_again() -> None:
    """Where changes will not be allowed for a year the run is held all the same, and looks again the next day."""
    guard = ChangeWindow.model_validate({"freeze": [{"from": "2020-01-01"}]})
    verdict = await guard.check(context(at=utc("2027-01-15T00:00")))
    assert (verdict.decision, verdict.until) == (Decision.HOLD, utc("2027-01-16T00:00"))


def test_every_zone_of_the_table_comes_with_the_package() -> None:
    """A machine without a zone database has the same zones."""
    for zone, _, _ in TABLE:
        assert ZoneInfo(zone).utcoffset(datetime(2027, 1, 1, tzinfo=ZoneInfo(zone))) is not None
    assert not resources.files("tzdata").joinpath("zones").read_text().isspace()


@pytest.mark.parametrize("interval", [
    {}, {"times": times("17:00", "09:00")}, {"times": times("09:00", "09:00")}, {"times": times("9:00", "10:00")},
    {"times": times("09:00", "24:30")}, {"times": [{"start_time": "09:00"}]}, {"weekdays": ["friday:monday"]},
    {"weekdays": ["fri"]}, {"weekdays": ["1:5"]}, {"days_of_month": [0]}, {"days_of_month": [32]},
    {"days_of_month": ["5:1"]}, {"days_of_month": ["-1:5"]}, {"days_of_month": ["-1:-3"]}, {"months": [13]},
    {"months": ["december:january"]}, {"months": ["jan"]}, {"years": ["2028:2027"]}, {"years": ["now"]},
    {"weekdays": ["monday"], "location": "Local"}, {"weekdays": ["monday"], "location": "Mars/Olympus"},
    {"weekdays": ["monday"], "location": "../etc/passwd"}, {"weekday": ["monday"]}, {"from": "2027-01-01"},
])  # fmt: skip
def test_what_is_no_interval_is_refused(interval: dict[str, Any]) -> None:
    """Ranges that are empty or the wrong way round, unknown words and zones, and what is always."""
    with pytest.raises(ValidationError):
        window(interval)


@pytest.mark.parametrize("freeze", [
    {"from": "20.12.2026"}, {"from": "2026-13-01"}, {"from": "2026-02-30"},
    {"from": "2027-01-02", "until": "2027-01-01"},
    {"reason": "only a reason"},
])  # fmt: skip
def test_what_is_no_freeze_is_refused(freeze: dict[str, Any]) -> None:
    """Dates that do not exist or are the wrong way round, and no date at all."""
    with pytest.raises(ValidationError):
        ChangeWindow.model_validate({"freeze": [freeze]})
    with pytest.raises(ValidationError):
        ChangeWindow.model_validate({})
