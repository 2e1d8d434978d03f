"""Proves that times and durations are read and written as Prometheus and RFC 3339 say, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from remediator.clock import Duration, SystemClock, format_duration, format_instant, parse_duration, parse_instant
from remediator.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("2w", 1209600.0),
        ("1y", 31536000.0),
        ("100ms", 0.1),
        ("1y2w3d4h5m6s7ms", 33019506.007),
        ("90m", 5400.0),
    ],
)
def test_durations_are_prometheus_ones(text: str, seconds: float) -> None:
    """What is a duration in a Prometheus rule is the same duration here."""
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "5 m", "-5m", "+5m", "5M", "1.5h", "1m1h", "1m1m", "m", "5min", "1e3s", "٥m", "5m\n", "1" * 60],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """Numbers without a unit, units in the wrong order and other guesses are refused, and the message shows one."""
    with pytest.raises(InputError, match="write a number and a unit, like 30s, 5m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_durations_survive_being_written(milliseconds: int) -> None:
    """A duration that was written is read back as the same, to the millisecond."""
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert parse_duration(text) == parse_duration(format_duration(parse_duration(text)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.0004, "0s"), (90, "1m30s"), (-90, "-1m30s"), (604800, "1w"), (0.25, "250ms")]
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    """People read the shortest form, and a minus where a clock was set back."""
    assert format_duration(seconds) == text


class _Model(BaseModel):
    model_config = ConfigDict(strict=True)
    wait: Duration


@pytest.mark.parametrize("value", [600, 1.5, None, True, "600", ["5m"]])
def test_a_field_takes_text_with_a_unit_and_nothing_else(value: Any) -> None:
    """A bare number in a rule could be seconds or minutes; it is refused with what to write."""
    with pytest.raises(ValidationError, match="like 30s, 5m or 1h30m"):
        _Model(wait=value)


def test_a_field_is_written_as_it_was_read() -> None:
    """A model that holds a duration survives its JSON, and its schema describes the text."""
    model = _Model.model_validate({"wait": "1h30m"})
    assert model.wait == 5400.0
    assert json.loads(model.model_dump_json()) == {"wait": "1h30m"}
    assert _Model.model_validate_json(model.model_dump_json()) == model
    assert _Model.model_json_schema()["properties"]["wait"]["type"] == "string"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-20T21:36:54.618Z", 1795210614.618),
        ("2026-11-20T22:36:54.618+01:00", 1795210614.618),
        ("2026-11-20T21:36:54.618123456Z", 1795210614.618123),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("2024-02-29T12:00:00-00:00", 1709208000.0),
    ],
)
def test_instants_are_rfc_3339(text: str, seconds: float) -> None:
    """Instants of Alertmanager, of any offset and with nanoseconds, are the Unix seconds they mean."""
    assert parse_instant(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-20",
        "2026-11-20T21:36:54",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-00:01",
        "1795210614",
    ],
)
def test_what_is_no_instant_is_refused_with_an_example(text: str) -> None:
    """An instant without an offset means another time on every machine; it is refused like one that never was."""
    with pytest.raises(InputError, match="is not an RFC 3339 time such as"):
        parse_instant(text)


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999))
def test_instants_survive_being_written(seconds: int, micros: int) -> None:
    """Whatever instant can be read can be written, always with four digits of year, and read back."""
    text = format_instant(float(seconds))
    assert parse_instant(text) == seconds
    assert len(text) == len("2026-11-20T21:36:54.618000Z") and text.endswith("Z")
    # Around today a float still tells microseconds apart.
    near = 1_700_000_000 + seconds % 100_000_000 + micros / 1e6
    assert parse_instant(format_instant(near)) == pytest.approx(near, abs=1e-6)


def test_the_hosts_clocks_are_those_of_the_host() -> None:
    """The one place that reads the time reads Unix seconds, and a clock that does not fall."""
    clock = SystemClock()
    assert 1_700_000_000 < clock.now() < 4_102_444_800
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
