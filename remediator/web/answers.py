"""How every answer looks: JSON, problem details (RFC 9457) and the headers that each one carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from remediator.errors import RemediatorError

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "remediator",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: nothing is cached, framed, sniffed or told to other sites."""

PROBLEM = "application/problem+json"
"""The media type of RFC 9457."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Refused(RemediatorError):
    """The request gets a problem instead of an answer. ``word`` is stable and ends the problem's ``type``."""

    def __init__(
        self, status: int, word: str, detail: str = "", *, headers: Mapping[str, str] | None = None, close: bool = False
    ) -> None:
        super().__init__(detail or word)
        self.status = status
        self.word = word
        self.detail = detail
        self.headers = headers or {}
        self.close = close


def answer(value: Any, *, status: int = 200) -> web.Response:
    """``value`` as JSON."""
    return web.Response(
        status=status, body=_encode(value).encode(), content_type="application/json", charset="utf-8", headers=HEADERS
    )


def text(body: str, *, status: int = 200, kind: str = "text/plain") -> web.Response:
    """Plain text, or another kind of it."""
    return web.Response(status=status, text=body, content_type=kind, headers=HEADERS)


def problem(refused: Refused) -> web.Response:
    """The problem as RFC 9457 writes it; ``type`` is a URN that docs/reference/http.md explains."""
    body: dict[str, Any] = {
        "type": f"urn:remediator:problem:{refused.word}",
        "title": HTTPStatus(refused.status).phrase,
        "status": refused.status,
    }
    if refused.detail:
        body["detail"] = refused.detail
    response = web.Response(
        status=refused.status,
        body=_encode(body).encode(),
        headers={**HEADERS, "Content-Type": PROBLEM, **refused.headers},
    )
    if refused.close:
        response.force_close()
    return response
