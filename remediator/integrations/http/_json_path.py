"""Places inside a JSON value, written as ``queue.workers[0]["a-b"]``: checked when loaded, looked up and never run."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

_SEGMENT = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,9})\]|\["([^"\\\]]*)"\]""")


def _keys(path: str) -> list[str | int]:
    keys: list[str | int] = []
    # A first name stands without its dot.
    text, at = path if path.startswith("[") else f".{path}", 0
    while segment := _SEGMENT.match(text, at):
        keys.append(segment[1] if segment[1] is not None else int(segment[2]) if segment[2] else segment[3])
        at = segment.end()
    if at < len(text) or not keys:
        raise ValueError('a JSON path is names and indexes, like queue.workers[0] or queue["a b"].state')
    return keys


def _check(path: str) -> str:
    _keys(path)
    return path


JsonPath = Annotated[str, Field(max_length=500), AfterValidator(_check)]
"""A place inside a JSON value."""


def look_up(value: Any, path: str) -> tuple[bool, Any]:
    """Whether there is something at ``path`` in ``value``, and what; null is something."""
    for key in _keys(path):
        inside = isinstance(value, dict) if isinstance(key, str) else isinstance(value, list)
        if not inside or (key not in value if isinstance(key, str) else key >= len(value)):
            return False, None
        value = value[key]
    return True, value
