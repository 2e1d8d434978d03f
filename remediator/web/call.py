"""One authorised request to the API: who asks, what they ask for, and the readers of its query."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from remediator.web.answers import Refused
from remediator.web.auth import Principal
from remediator.web.body import read_model
from remediator.web.service import Service

M = TypeVar("M", bound=BaseModel)
LIMIT = 100
MOST = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose sender may make it."""

    request: web.Request
    service: Service
    who: Principal

    def path(self, name: str) -> str:
        """A part of the path, decoded."""
        return self.request.match_info[name]

    def know(self, *names: str) -> None:
        """Refuse query parameters that are not in ``names``: a mistyped filter must not answer with everything."""
        for name in self.request.query:
            if name not in names:
                listed = ", ".join(names) or "none"
                raise Refused(400, "parameter", f'no query parameter is named "{name[:80]}"; there are: {listed}')

    def one(self, name: str, default: str = "") -> str:
        """A query parameter that may stand once."""
        values = self.request.query.getall(name, [])
        if len(values) > 1:
            raise Refused(400, "parameter", f"{name}: may stand only once")
        if values and (len(values[0]) > 400 or not values[0].isprintable()):
            raise Refused(400, "parameter", f"{name}: is too long or holds control characters")
        return values[0] if values else default

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """A query parameter that is one of ``choices``."""
        value = self.one(name, default)
        if value not in choices:
            raise Refused(400, "parameter", f'{name}: "{value[:80]}" is none of {", ".join(choices)}')
        return value

    def choices(self, name: str, choices: Collection[str]) -> list[str]:
        """A query parameter that may stand several times, each one of ``choices``."""
        values = self.request.query.getall(name, [])
        for value in values:
            if value not in choices:
                raise Refused(400, "parameter", f'{name}: "{value[:80]}" is none of {", ".join(choices)}')
        return values

    def limit(self) -> int:
        """How many items to answer: 1 to MOST."""
        value = self.one("limit", str(LIMIT))
        if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= MOST:
            raise Refused(400, "parameter", f'limit: "{value[:80]}" is not a whole number from 1 to {MOST}')
        return int(value)

    def cursor(self, kind: str) -> str:
        """Where the last page of this ``kind`` of list ended, or an empty string."""
        value = self.one("cursor")
        if not value:
            return ""
        try:
            made, _, position = base64.urlsafe_b64decode(value.encode() + b"==").decode().partition(":")
        except ValueError:
            made, position = "", ""
        if made != kind or not position.isascii() or not position.isalnum():
            raise Refused(400, "parameter", 'cursor: take it from "next" of the page before')
        return position

    async def body(self, model: type[M]) -> M:
        """The request's body as ``model``."""
        return await read_model(self.request, model, self.service.options.body_timeout)


def cursor(kind: str, position: object) -> str:
    """The opaque text that ``Call.cursor`` reads."""
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")
