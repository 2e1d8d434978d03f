"""Servers that the tests and stages of several actions share: started when first asked for, ended with the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_running: dict[str, tuple[Any, Callable[[], None]]] = {}


def shared(name: str, start: Callable[[], T], stop: Callable[[T], None]) -> T:
    """The server of that name; ``start`` makes it, ``stop`` ends it when the session is over."""
    if name not in _running:
        server = start()
        _running[name] = (server, lambda: stop(server))
    found: T = _running[name][0]
    return found


def end_all() -> None:
    """End what was started, the last one first."""
    while _running:
        _, (_, stop) = _running.popitem()
        stop()
