"""What Alertmanager sends: one delivery (webhook body, version "4") and the alerts in it, read and bounded.

Source: Alertmanager's webhook documentation (configuration.md, ``webhook_config``). The root ``status`` is ignored:
a group mixes firing and resolved alerts, and only each alert's own status counts. Unknown fields are tolerated.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from remediator.clock import parse_instant
from remediator.errors import DeliveryError, InputError


class Alert(NamedTuple):
    """One alert of a delivery. Instants are Unix seconds; ``ends_at`` is None while it fires."""

    firing: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ends_at: float | None
    generator_url: str = ""

    @property
    def name(self) -> str:
        """The label ``alertname``, or an empty string."""
        return self.labels.get("alertname", "")


class Delivery(NamedTuple):
    """One webhook body that was accepted, as it stands and as it was read."""

    body: bytes
    digest: str
    receiver: str
    group_key: str
    external_url: str
    truncated: int
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much one delivery may hold. Sizes are characters; depth counts nested objects and arrays."""

    alerts: int = 2000
    labels: int = 64
    name: int = 1024
    annotation: int = 8192
    depth: int = 6


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The last of two equal keys would win silently, and a reviewer would see the first.
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise DeliveryError(400, "duplicate_key", f'the key "{_shown(twice)}" stands twice in one object')
    return found


def _shown(text: str) -> str:
    # What a hostile sender wrote goes into an answer, a log line and the audit: short, and such that each can keep it.
    return text[:80].encode("utf-8", "backslashreplace").decode()


def _no_constant(text: str) -> Any:
    raise DeliveryError(400, "not_json", f"{text} is not JSON (RFC 8259 has no such number)")


_decode = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant).decode


def read_delivery(body: bytes, bounds: Bounds) -> Delivery:
    """The delivery in ``body``. Raises DeliveryError (always HTTP 400) that names what is wrong and where."""
    doc = _document(body)
    version = doc.get("version")
    if version != "4":
        said = "a list or an object" if type(version) in (list, dict) else json.dumps(version)[:40]
        raise DeliveryError(400, "version", f'"version" must be "4" (Alertmanager 0.6 and later), not {said}')
    raw = doc.get("alerts")
    if type(raw) is not list:
        raise DeliveryError(400, "alerts", '"alerts" must be a list of alerts')
    if len(raw) > bounds.alerts:
        message = f"{len(raw)} alerts in one body; at most {bounds.alerts} are read (intake.max_alerts)"
        raise DeliveryError(400, "too_many_alerts", message)
    _bound_depth(doc, bounds.depth)
    truncated = doc.get("truncatedAlerts", 0)
    if type(truncated) is not int or truncated < 0:
        raise DeliveryError(400, "truncated", '"truncatedAlerts" must be a whole number')
    return Delivery(
        body,
        hashlib.sha256(body).hexdigest(),
        _text(doc, "receiver"),
        _text(doc, "groupKey"),
        _text(doc, "externalURL"),
        truncated,
        tuple([_alert(item, index, bounds) for index, item in enumerate(raw)]),
    )


def _document(body: bytes) -> dict[str, Any]:
    try:
        doc = _decode(body.decode("utf-8"))
    except DeliveryError:
        raise
    except UnicodeDecodeError as error:
        raise DeliveryError(400, "not_utf8", f"the body is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise DeliveryError(
            400, "not_json", f"the body is not JSON: {error.msg} (line {error.lineno} column {error.colno})"
        ) from None
    except RecursionError:
        raise DeliveryError(400, "too_deep", "the body is nested too deep") from None
    except ValueError:
        # Python refuses to read integers of more than 4,300 digits.
        raise DeliveryError(400, "not_json", "the body holds a number that is too long to read") from None
    if type(doc) is not dict:
        raise DeliveryError(400, "not_object", "the body must be a JSON object as Alertmanager sends it")
    return doc


def _text(doc: Mapping[str, Any], key: str) -> str:
    value = doc.get(key, "")
    if type(value) is not str or len(value) > 65536:
        raise DeliveryError(400, "field", f'"{key}" must be text of at most 65536 characters')
    if not value.isascii():
        _bound_unicode(value, key)
    return value


_FLAT = frozenset(
    ("receiver", "status", "externalURL", "version", "groupKey", "truncatedAlerts", "notification_reason", "alerts")
)
_ALERT_FLAT = frozenset(
    ("status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint")
)


def _bound_depth(doc: Mapping[str, Any], limit: int) -> None:
    # Known fields have a fixed shape that is checked by type; only unknown ones can nest.
    for key, value in doc.items():
        if key not in _FLAT and type(value) in (dict, list):
            _bound_value(value, limit - 1, key)


def _bound_value(value: Any, left: int, where: str) -> None:
    if left <= 0:
        raise DeliveryError(400, "too_deep", f'"{_shown(where)}" is nested too deep')
    for inner in value.values() if type(value) is dict else value:
        if type(inner) in (dict, list):
            _bound_value(inner, left - 1, where)


_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: "has not ended".


def _alert(item: Any, index: int, bounds: Bounds) -> Alert:
    if type(item) is not dict:
        raise DeliveryError(400, "alert", f"alerts[{index}] must be an object")
    status = item.get("status")
    if status != "firing" and status != "resolved":
        raise DeliveryError(400, "alert", f'alerts[{index}].status must be "firing" or "resolved"')
    labels = _pairs(item.get("labels"), f"alerts[{index}].labels", bounds, bounds.name)
    if not labels:
        raise DeliveryError(400, "alert", f"alerts[{index}].labels must hold at least one label")
    if len(item) > 7 or not _ALERT_FLAT.issuperset(item):
        for key, value in item.items():
            if key not in _ALERT_FLAT and type(value) in (dict, list):
                _bound_value(value, bounds.depth - 3, key)
    annotations = item.get("annotations")
    firing = status == "firing"
    starts_at = _instant(item.get("startsAt"), index, "startsAt")
    ends = item.get("endsAt", _NEVER)
    url = item.get("generatorURL", "")
    if type(url) is not str:
        url = ""
    elif not url.isascii():
        _bound_unicode(url, f"alerts[{index}].generatorURL")
    return Alert(
        firing,
        labels,
        _pairs(annotations, f"alerts[{index}].annotations", bounds, bounds.annotation) if annotations else {},
        starts_at,
        None if firing or ends == _NEVER else _instant(ends, index, "endsAt"),
        url[:4096],
    )


def _instant(value: Any, index: int, key: str) -> float:
    try:
        return parse_instant(value)
    except (InputError, TypeError, OverflowError):
        raise DeliveryError(
            400, "alert", f"alerts[{index}].{key} must be an RFC 3339 time such as 2026-11-20T21:36:54Z"
        ) from None


def _pairs(value: Any, where: str, bounds: Bounds, longest: int) -> dict[str, str]:
    if type(value) is not dict:
        raise DeliveryError(400, "alert", f"{where} must be an object of text")
    if len(value) > bounds.labels:
        message = f"{where} holds {len(value)} names; at most {bounds.labels} are read"
        raise DeliveryError(400, "too_many_labels", message)
    name_limit = bounds.name
    if _harmless(value, min(longest, name_limit)):
        return value
    for name, text in value.items():
        if type(text) is not str or len(text) > longest or len(name) > name_limit or "\x00" in text or "\x00" in name:
            raise DeliveryError(
                400, "alert", f'{where}["{_shown(name)}"] must be text of at most {longest} characters without NUL'
            )
        if not (text.isascii() and name.isascii()):
            _bound_unicode(name + text, where)
    return value


def _harmless(value: Mapping[str, Any], limit: int) -> bool:
    # Nearly every alert: ASCII, and shorter as a whole than any part may be. One look instead of one for each text.
    try:
        text = "".join((*value, *value.values()))
    except TypeError:
        return False
    return len(text) <= limit and text.isascii() and "\x00" not in text


def _bound_unicode(text: str, where: str) -> None:
    # JSON can spell half of a surrogate pair, which no UTF-8 store can keep and no Alertmanager sends.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DeliveryError(400, "not_utf8", f"{where} holds a lone surrogate, which is not text") from None
