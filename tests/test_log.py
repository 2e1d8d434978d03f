"""Proves what a log line carries, in which form, and that no secret and no foreign line escapes the form."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from remediator.errors import InputError
from remediator.log import FORMATS, configure, logger
from remediator.redact import MASK, register_secret


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_where_and_for_which_run() -> None:
    """Each line is one JSON object with the time in UTC, the level, the part, and the run it belongs to."""
    out = io.StringIO()
    configure(stream=out)
    with structlog.contextvars.bound_contextvars(run="01abc", rule="minting", step="scale"):
        logger("engine").info("step done", replicas=5)
    (line,) = _lines(out)
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "event": "step done", "level": "info", "part": "engine", "replicas": 5, "rule": "minting", "run": "01abc",
        "step": "scale",
    }  # fmt: skip


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    """Modules may ask for their logger when they are imported; the form chosen later still holds."""
    log = logger("early")
    out = io.StringIO()
    configure(stream=out, form="logfmt")
    log.warning("late", n=1)
    assert out.getvalue().endswith("level=warning event=late part=early n=1\n")


def test_libraries_log_the_same_way() -> None:
    """What aiohttp says through the standard library is a JSON line too, with its secrets masked."""
    register_secret("library-secret-77")
    out = io.StringIO()
    configure(stream=out)
    logging.getLogger("aiohttp.server").error("failed with %s", "library-secret-77")
    (line,) = _lines(out)
    assert (line["event"], line["level"]) == (f"failed with {MASK}", "error")


@pytest.mark.parametrize("name", ["httpx2", "solana.rpc", "aiohttp.access", "asyncio"])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_http_clients_chat_about_is_not_told(name: str, level: str) -> None:
    """Each request with its address, which may hold a provider's key, stays out of the log; warnings do not."""
    out = io.StringIO()
    configure(stream=out, level=level)
    logging.getLogger(name).info("HTTP Request: POST https://rpc.example/?api-key=1")
    logging.getLogger(name).warning("trouble")
    assert [line["event"] for line in _lines(out)] == ["trouble"]


@pytest.mark.parametrize("form", FORMATS)
def test_secrets_never_reach_a_line(form: str) -> None:
    """In every form, the message, the fields, nested fields and the traceback are searched for secrets."""
    register_secret("canary-5f2e9c")
    out = io.StringIO()
    configure(stream=out, form=form)
    try:
        raise ValueError("canary-5f2e9c")
    except ValueError:
        logger("web").exception("no canary-5f2e9c", a="canary-5f2e9c", b={"c": ["canary-5f2e9c"]}, d=ValueError("x"))
    assert MASK in out.getvalue()
    assert "canary-5f2e9c" not in out.getvalue()


def test_the_level_decides_what_is_said() -> None:
    """With --log.level=warn neither our own nor a library's information is written."""
    out = io.StringIO()
    configure(stream=out, level="warn")
    logger("web").info("no")
    logging.getLogger("other").info("no")
    logger("web").warning("yes")
    assert [line["event"] for line in _lines(out)] == ["yes"]


def test_unknown_words_are_refused_with_the_known_ones() -> None:
    """A wrong level or format is an error that lists what may be written."""
    with pytest.raises(InputError, match='"loud" is no log level; write one of debug, info, warn, error'):
        configure(level="loud")
    with pytest.raises(InputError, match='"xml" is no log format; write one of json, logfmt, console'):
        configure(form="xml")


def test_a_stream_that_is_gone_stops_nothing() -> None:
    """When nobody can take the log any more (a closed pipe), what the service was doing goes on."""
    out = io.StringIO()
    configure(stream=out)
    out.close()
    logger("web").error("nobody hears this")
    logging.getLogger("other").error("nor this")
