"""Proves that every real delivery is read as it stands, and that no body at all does worse than a pointing refusal."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.alert import Bounds, Delivery, read_delivery
from remediator.clock import parse_instant
from remediator.errors import DeliveryError

PAYLOADS = sorted((Path(__file__).parent / "payloads").glob("*.json"))
BOUNDS = Bounds()
GOOD = PAYLOADS[0].read_bytes()


def _body(**changes: Any) -> bytes:
    """A body of one alert; ``changes`` replace fields of the body, and ``alert`` those of the alert."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "Down"},
        "annotations": {},
        "startsAt": "2026-11-20T21:36:54.618Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "0123456789abcdef",
    }
    alert |= changes.pop("alert", {})
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]} | changes).encode()


def _refusal(body: bytes, bounds: Bounds = BOUNDS) -> DeliveryError:
    with pytest.raises(DeliveryError) as error:
        read_delivery(body, bounds)
    assert error.value.status == 400
    return error.value


# what Alertmanager sends ---------------------------------------------------------------------------------------------


def test_the_captured_bodies_are_there() -> None:
    """The bodies come from three versions of Alertmanager and show firing, resolved, mixed and truncated groups."""
    names = {path.name for path in PAYLOADS}
    assert len(names) == 13
    for part in ("am0.25.0", "am0.28.1", "am0.33.1", "firing", "resolved", "mixed", "Trunc"):
        assert any(part in name for name in names), part


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_every_captured_body_is_read_as_it_stands(path: Path) -> None:
    """Nothing that a real Alertmanager sent is refused, changed or lost."""
    body = path.read_bytes()
    doc = json.loads(body)
    delivery = read_delivery(body, BOUNDS)
    assert (delivery.body, delivery.digest) == (body, hashlib.sha256(body).hexdigest())
    assert (delivery.receiver, delivery.group_key) == (doc["receiver"], doc["groupKey"])
    assert (delivery.external_url, delivery.truncated) == (doc["externalURL"], doc["truncatedAlerts"])
    assert len(delivery.alerts) == len(doc["alerts"])
    for alert, told in zip(delivery.alerts, doc["alerts"], strict=True):
        assert (alert.firing, alert.name) == (told["status"] == "firing", told["labels"]["alertname"])
        assert (alert.labels, alert.annotations) == (told["labels"], told["annotations"])
        assert alert.starts_at == parse_instant(told["startsAt"])
        assert alert.ends_at == (None if alert.firing else parse_instant(told["endsAt"]))
        assert alert.generator_url == told["generatorURL"]


def test_each_alert_has_its_own_status() -> None:
    """A group that is firing as a whole holds alerts that have ended, and they are read as ended."""
    mixed = next(path for path in PAYLOADS if "0.33.1__mixed" in path.name).read_bytes()
    delivery = read_delivery(mixed, BOUNDS)
    assert json.loads(mixed)["status"] == "firing"
    assert {alert.firing for alert in delivery.alerts} == {True, False}


def test_alerts_that_were_left_out_are_noticed() -> None:
    """``max_alerts`` at the receiver cuts deliveries short, and how much was cut is known."""
    truncated = next(path for path in PAYLOADS if "Trunc" in path.name).read_bytes()
    assert read_delivery(truncated, BOUNDS).truncated > 0


def test_fields_of_later_versions_are_tolerated() -> None:
    """A field that nobody knows yet, in the body or in an alert, is no reason to lose an alert."""
    body = _body(newField={"deep": [1, {"x": None}]}, alert={"newField": {"a": ["b"]}, "other": 7})
    assert len(read_delivery(body, BOUNDS).alerts) == 1


def test_what_may_be_absent_may_be_absent() -> None:
    """Only version, alerts, and each alert's status, labels and start are needed."""
    body = b'{"version":"4","alerts":[{"status":"firing","labels":{"a":"b"},"startsAt":"2026-11-20T21:36:54Z"}]}'
    (alert,) = read_delivery(body, BOUNDS).alerts
    assert (alert.annotations, alert.ends_at, alert.generator_url, alert.name) == ({}, None, "", "")
    assert read_delivery(b'{"version":"4","alerts":[]}', BOUNDS).alerts == ()


def test_the_end_of_a_firing_alert_is_not_an_end() -> None:
    """A firing alert carries when it would time out; that is no end."""
    (alert,) = read_delivery(_body(alert={"endsAt": "2026-11-20T22:00:00Z"}), BOUNDS).alerts
    assert alert.firing and alert.ends_at is None


# what is refused -----------------------------------------------------------------------------------------------------

ALERT = "2026-11-20T21:36:54Z"
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "not_json", "line 1 column 1"),
    "text": (b"hello", "not_json", "line 1 column 1"),
    "cut short": (GOOD[:200], "not_json", "line 1"),
    "two documents": (b"{}{}", "not_json", "column 3"),
    "latin-1": (b'{"version":"\xe4"}', "not_utf8", "byte 12"),
    "utf-16": (GOOD.decode().encode("utf-16"), "not_utf8", "byte 0"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "not_json", "line 1"),
    "NaN": (b'{"version":"4","alerts":[],"x":NaN}', "not_json", "NaN is not JSON"),
    "minus infinity": (b'{"version":"4","alerts":[],"x":-Infinity}', "not_json", "-Infinity is not JSON"),
    "huge number": (b'{"version":"4","alerts":[],"x":' + b"9" * 5000 + b"}", "not_json", "too long"),
    "a list": (b"[]", "not_object", "must be a JSON object"),
    "null": (b"null", "not_object", "must be a JSON object"),
    "a number": (b"4", "not_object", "must be a JSON object"),
    "duplicate key": (b'{"version":"4","alerts":[],"version":"4"}', "duplicate_key", '"version" stands twice'),
    "duplicate label": (_body().replace(b'"alertname"', b'"job": "x", "job"'), "duplicate_key", '"job" stands twice'),
    "deep": (b'{"version":"4","alerts":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep", "too deep"),
    "deep field": (_body(x=[[[[[[1]]]]]]), "too_deep", '"x" is nested too deep'),
    "deep field of an alert": (_body(alert={"x": [[[[1]]]]}), "too_deep", '"x" is nested too deep'),
    "no version": (b'{"alerts":[]}', "version", "not null"),
    "version 3": (_body(version="3"), "version", 'not "3"'),
    "version as a number": (_body(version=4), "version", "not 4"),
    "version as a list": (_body(version=[[4]]), "version", "not a list or an object"),
    "no alerts": (b'{"version":"4"}', "alerts", "must be a list"),
    "alerts as an object": (_body(alerts={}), "alerts", "must be a list"),
    "alert as text": (_body(alerts=["Down"]), "alert", "alerts[0] must be an object"),
    "no status": (_body(alert={"status": None}), "alert", "alerts[0].status"),
    "other status": (_body(alert={"status": "suppressed"}), "alert", '"firing" or "resolved"'),
    "no labels": (_body(alert={"labels": {}}), "alert", "at least one label"),
    "labels as a list": (_body(alert={"labels": ["a"]}), "alert", "alerts[0].labels must be an object"),
    "labels as null": (_body(alert={"labels": None}), "alert", "alerts[0].labels must be an object"),
    "label as a number": (_body(alert={"labels": {"a": 1}}), "alert", 'alerts[0].labels["a"] must be text'),
    "label as null": (_body(alert={"labels": {"a": None}}), "alert", 'alerts[0].labels["a"] must be text'),
    "NUL in a label": (_body(alert={"labels": {"a": "x\x00y"}}), "alert", "without NUL"),
    "NUL in a name": (_body(alert={"labels": {"a\x00": "x"}}), "alert", "without NUL"),
    "half a surrogate": (_body(alert={"labels": {"a": "\ud800"}}), "not_utf8", "lone surrogate"),
    "half a surrogate in a name": (_body(alert={"labels": {"\udfff": "x"}}), "not_utf8", "lone surrogate"),
    "half a surrogate in a link": (_body(alert={"generatorURL": "\ud800"}), "not_utf8", "lone surrogate"),
    "half a surrogate in a receiver": (_body(receiver="\ud800"), "not_utf8", "lone surrogate"),
    "annotation as an object": (_body(alert={"annotations": {"a": {}}}), "alert", 'annotations["a"] must be text'),
    "no start": (_body(alert={"startsAt": None}), "alert", "alerts[0].startsAt must be an RFC 3339 time"),
    "start as a number": (_body(alert={"startsAt": 1700000000}), "alert", "alerts[0].startsAt"),
    "start without an offset": (_body(alert={"startsAt": "2026-11-20T21:36:54"}), "alert", "alerts[0].startsAt"),
    "start as a date": (_body(alert={"startsAt": "2026-11-20"}), "alert", "alerts[0].startsAt"),
    "impossible start": (_body(alert={"startsAt": "2026-02-30T00:00:00Z"}), "alert", "alerts[0].startsAt"),
    "start before all time": (_body(alert={"startsAt": "0001-01-01T00:00:00+23:59"}), "alert", "alerts[0].startsAt"),
    "no end": (_body(alert={"status": "resolved", "endsAt": "soon"}), "alert", "alerts[0].endsAt"),
    "truncated as text": (_body(truncatedAlerts="1"), "truncated", "whole number"),
    "truncated below zero": (_body(truncatedAlerts=-1), "truncated", "whole number"),
    "truncated as true": (_body(truncatedAlerts=True), "truncated", "whole number"),
    "receiver as a list": (_body(receiver=[]), "field", '"receiver" must be text'),
    "long group key": (_body(groupKey="x" * 65537), "field", '"groupKey" must be text'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_body_is_refused_by_name(case: str) -> None:
    """Each kind of bad body gets 400, a stable reason, and a sentence that points at what is wrong."""
    body, reason, text = REFUSED[case]
    error = _refusal(body)
    assert (error.reason, text in str(error)) == (reason, True), str(error)


@pytest.mark.parametrize(
    ("bounds", "changes", "reason"),
    [
        (Bounds(alerts=2), {"alerts": [{}, {}, {}]}, "too_many_alerts"),
        (Bounds(labels=2), {"alert": {"labels": {"a": "", "b": "", "c": ""}}}, "too_many_labels"),
        (Bounds(labels=2), {"alert": {"annotations": {"a": "", "b": "", "c": ""}}}, "too_many_labels"),
        (Bounds(name=9), {"alert": {"labels": {"abcdefghij": ""}}}, "alert"),
        (Bounds(name=9), {"alert": {"labels": {"a": "abcdefghij"}}}, "alert"),
        (Bounds(annotation=9), {"alert": {"annotations": {"a": "abcdefghij"}}}, "alert"),
    ],
)
def test_bounds_are_exact(bounds: Bounds, changes: dict[str, Any], reason: str) -> None:
    """One more than allowed is refused; exactly as much is read."""
    assert _refusal(_body(**changes), bounds).reason == reason
    more = Bounds(
        alerts=bounds.alerts + 1, labels=bounds.labels + 1, name=bounds.name + 1, annotation=bounds.annotation + 1
    )
    if "alerts" not in changes:
        assert read_delivery(_body(**changes), more).alerts


def test_an_answer_can_always_be_written_down() -> None:
    """What a refusal quotes from the body is short, and can be stored and shown, whatever the body holds."""
    for name in ("\ud800", "x" * 100_000, "\udcff" * 500):
        for body in (
            b'{"%s":1,"%s":2}' % ((json.dumps(name)[1:-1].encode(),) * 2),
            _body(alert={"labels": {name: 1}}),
            _body(**{name: [[[[[[1]]]]]]}),
        ):
            assert len(str(_refusal(body)).encode()) < 1000


def test_a_hostile_body_is_refused_quickly() -> None:
    """A megabyte that is made to be slow to read costs no more than a long body does."""
    many = b",".join(b'"k%d":1' % number for number in range(90_000))
    for body in (
        b"{" + many + b',"k89999":1}',
        b'{"version":"4","alerts":[],"x":' + b"[" * 500_000,
        b'{"version":"4","alerts":[' + b"{}," * 300_000 + b"{}]}",
        b'{"version":"4","alerts":[{"labels":{' + many + b"}}]}",
    ):
        started = time.process_time()
        _refusal(body)
        assert time.process_time() - started < 2.0


# fuzz ----------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TIMES = st.sampled_from((ALERT, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-W01-1T00Z", "", "x"))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.just("4") | JSON,
            "receiver": st.text(max_size=5) | JSON,
            "truncatedAlerts": st.integers() | JSON,
            "x": JSON,
            "alerts": JSON
            | st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "status": st.sampled_from(("firing", "resolved")) | JSON,
                        "labels": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3) | JSON,
                        "annotations": JSON,
                        "startsAt": TIMES | JSON,
                        "endsAt": TIMES | JSON,
                        "generatorURL": JSON,
                        "y": JSON,
                    },
                ),
                max_size=3,
            ),
        },
    )
)
@settings(max_examples=800)
def test_any_json_is_read_or_refused(doc: Any) -> None:
    """Whatever JSON comes in, the answer is a delivery that can be stored or a DeliveryError, and nothing else."""
    _read_or_refuse(json.dumps(doc).encode())


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """The same for bytes that are no JSON at all."""
    _read_or_refuse(body)


@given(st.sampled_from(PAYLOADS), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 4))
@settings(max_examples=800)
def test_a_damaged_real_body_is_read_or_refused(path: Path, at: int, put: bytes, cut: int) -> None:
    """The same for real bodies with a few bytes put in, changed or lost."""
    body = path.read_bytes()
    at %= len(body)
    _read_or_refuse(body[:at] + put + body[at + cut :])


def _read_or_refuse(body: bytes) -> None:
    try:
        delivery: Delivery = read_delivery(body, BOUNDS)
    except DeliveryError as error:
        assert error.status == 400 and error.reason and str(error).encode()
        return
    for alert in delivery.alerts:
        for text in (*alert.labels, *alert.labels.values(), *alert.annotations, *alert.annotations.values()):
            assert "\x00" not in text or text in alert.annotations
            text.encode()
        alert.generator_url.encode()
        assert -1e11 < alert.starts_at < 1e12
