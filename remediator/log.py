"""What the service says while it runs: one line per happening as JSON, logfmt or for a terminal, without secrets.

Lines carry the run, the rule and the step they belong to (``structlog.contextvars.bind_contextvars(run=…)``), and what
libraries log through the standard library goes the same way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from remediator.errors import InputError
from remediator.redact import redact, redact_text

LEVELS = ("debug", "info", "warn", "error")
"""Values of ``--log.level``, Prometheus' words."""

FORMATS = ("json", "logfmt", "console")
"""Values of ``--log.format``."""

_FIRST = ("ts", "level", "event", "run", "rule", "step")

Line = MutableMapping[str, Any]


def _redacting(_logger: Any, _method: str, line: Line) -> Line:
    for key, value in line.items():
        line[key] = redact(value) if isinstance(value, str | dict | list | tuple) else value
    return line


def _safe(value: Any) -> str:
    # Whatever is no JSON is told by its text, which may hold a secret like any other.
    return redact_text(str(value))


def _renderer(form: str, stream: TextIO) -> list[Any]:
    if form == "json":
        encode = json.JSONEncoder(default=_safe, ensure_ascii=False).encode
        return [structlog.processors.JSONRenderer(serializer=lambda line, **_: encode(line))]
    if form == "logfmt":
        return [structlog.processors.LogfmtRenderer(key_order=_FIRST, drop_missing=True, bool_as_flag=False)]
    # The default formatter draws local variables beside a traceback, and those hold secrets.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="ts", exception_formatter=plain)]


class _Lines:
    """Writes each line at once and whole. A log that cannot be written stops nothing of what it would tell about."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._alone = threading.Lock()

    def msg(self, line: str) -> None:
        """Write ``line``, if it can be written."""
        with self._alone, contextlib.suppress(OSError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    debug = info = warning = error = critical = exception = fatal = warn = msg


def configure(*, level: str = "info", form: str = "", stream: TextIO | None = None) -> None:
    """Set logging up for this process: structlog and the standard library write to ``stream`` (stderr).

    ``form`` is one of FORMATS; empty means console on a terminal and JSON otherwise. Raises InputError for a word that
    is no level or format.
    """
    out = sys.stderr if stream is None else stream
    form = form or ("console" if out.isatty() else "json")
    if level not in LEVELS:
        raise InputError(f'"{level}" is no log level; write one of {", ".join(LEVELS)}')
    if form not in FORMATS:
        raise InputError(f'"{form}" is no log format; write one of {", ".join(FORMATS)}')
    number = {"debug": 10, "info": 20, "warn": 30, "error": 40}[level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redacting,
    ]
    lines = _Lines(out)
    # Our own lines are written straight away; going through the standard library would cost twice as much for each.
    structlog.configure(
        processors=[*shared, *_renderer(form, out)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:2], structlog.stdlib.ExtraAdder(), *shared[2:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderer(form, out)],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    # asyncio's debug lines and aiohttp's access lines are noise beside ours; HTTP clients tell whole addresses, and
    # those of RPC providers hold keys.
    for name in ("asyncio", "aiohttp.access", "httpx2", "solana"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def logger(part: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of one part of the house; its lines carry ``part``."""
    found: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=part)
    return found
