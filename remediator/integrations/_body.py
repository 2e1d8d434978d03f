"""Bodies of answers as evidence: JSON that the audit can hold, or bounded text."""

from __future__ import annotations

import json
from typing import Any

from remediator.integrations._client import Answer

_TEXT_LIMIT = 16 * 1024


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def parse_json(raw: bytes) -> Any:
    """The JSON value in ``raw``.

    Raises ValueError for anything that cannot be written back as JSON text of UTF-8 without NUL: NaN, numbers
    beyond a double, lone surrogates, and nesting deeper than the parser goes.
    """
    try:
        value = json.loads(raw, parse_constant=_refuse)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if "\\u0000" in written:
        raise ValueError("JSON holds a NUL character")
    return value


def readable(answer: Answer) -> dict[str, Any]:
    """``json`` where the server sent complete JSON (else null), ``text`` otherwise, and whether it was cut."""
    value: Any = None
    text = ""
    truncated = answer.truncated or answer.broken
    try:
        if truncated or "json" not in answer.content_type.lower():
            raise ValueError("not JSON")
        value = parse_json(answer.body)
    except ValueError:
        text = answer.body.decode(errors="replace").replace("\x00", "\ufffd")
        truncated = truncated or len(text) > _TEXT_LIMIT
        text = text[:_TEXT_LIMIT]
    return {"json": value, "text": text, "truncated": truncated}
