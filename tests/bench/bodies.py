"""The requests that the benchmark sends: real Alertmanager bodies with as many distinct alerts as asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

CAPTURED = Path(__file__).parent.parent / "payloads" / "am0.33.1__firing_HighQueueDepth.json"
PATH = "/api/v1/alertmanager"
_MARK = "{{number}}"


class Bodies:
    """Requests with ``per`` alerts a body; every alert carries a number in its label ``queue``."""

    def __init__(self, per: int, *, alertname: str | None = None, path: str = PATH) -> None:
        captured = json.loads(CAPTURED.read_text())
        [alert] = captured["alerts"][:1]
        labels = {**alert["labels"], "queue": _MARK}
        if alertname is not None:
            labels["alertname"] = alertname
        # An alert that began long ago would have waited its `for` already.
        starts_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        del captured["groupKey"]
        # The group key comes first and holds a serial, which makes bodies differ whose alerts are the same.
        document = {"groupKey": _MARK, **captured, "alerts": [{**alert, "labels": labels, "startsAt": starts_at}] * per}
        text = json.dumps(document, separators=(",", ":"))
        self.per = per
        self._parts = [part.encode() for part in text.split(_MARK)]
        size = sum(map(len, self._parts)) + 8 * (per + 1)
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Alertmanager/0.33.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
        ).encode()

    def request(self, first: int, serial: int = 0) -> bytes:
        """The request whose alerts are numbered from ``first``."""
        pieces = [self._head, self._parts[0], b"%08d" % serial]
        for offset, part in enumerate(self._parts[1:-1]):
            pieces += (part, b"%08d" % (first + offset))
        return b"".join((*pieces, self._parts[-1]))

    def requests(self, first: int, count: int) -> list[bytes]:
        """``count`` requests with distinct alerts, numbered from ``first``."""
        return [self.request(first + index * self.per) for index in range(count)]

    def again(self, first: int, count: int, serials: range) -> list[bytes]:
        """The alerts of ``requests(first, count)`` again and again, in bodies that differ from each other."""
        return [self.request(first + serial % count * self.per, serial) for serial in serials]


class Numbers:
    """Hands out numbers of alerts that nobody has sent before."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> int:
        """The first of ``count`` fresh numbers."""
        first, self._next = self._next, self._next + count
        return first


def endless(requests: list[bytes]) -> Iterator[bytes]:
    """The same requests again and again."""
    while True:
        yield from requests
