"""The settings of a target of kind ``http``."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator

from remediator.integrations import _web

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    {"authorization", "cookie", "host", "content-length", "content-type", "transfer-encoding", "connection"}
    | {"accept-encoding", "expect", "te", "trailer", "upgrade", "proxy-authorization"}
)


class HttpTarget(_web.WebTarget):
    """A service with an HTTP API. Rules name a path; the address, the token and what is allowed stand here."""

    lists: ClassVar[tuple[str, ...]] = ("paths",)

    headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers sent with every request. They are shown and logged: no secrets here.",
    )
    idempotency_header: str = Field(
        default="Idempotency-Key", description="The header that carries the key of the step to `http.post`."
    )

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _TOKEN.fullmatch(name) is None or name.lower() in _OURS:
                raise ValueError(
                    f'"{name}" cannot be set here; for credentials use bearer_token_file, the rest is sent by itself'
                )
            if not value.isascii() or not value.isprintable():
                raise ValueError(f'the value of header "{name}" must be printable ASCII')
        return headers

    @field_validator("idempotency_header")
    @classmethod
    def _idempotency_header(cls, name: str) -> str:
        if _TOKEN.fullmatch(name) is None or name.lower() in _OURS:
            raise ValueError("idempotency_header must be a header name such as Idempotency-Key")
        return name
