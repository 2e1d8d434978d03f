"""Reads a request body: bounded in size and time, in one encoding, and only after somebody has looked who asks."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from remediator.web.answers import Refused

M = TypeVar("M", bound=BaseModel)
_SMALL = 65536


def check_head(request: web.BaseRequest, limit: int) -> None:
    """Refuse by its head what will not be read: another type than JSON, an encoding, too many bytes."""
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "encoding", "send the body without Content-Encoding; Alertmanager does")
    if request.content_type != "application/json":
        raise Refused(415, "media-type", "the body must be application/json, and its Content-Type must say so")
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Refused:
    return Refused(413, "too-large", f"the body may have at most {limit} bytes", close=True)


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """The whole body. Refuses with 413 once it is longer than ``limit``, and with 408 when it takes too long."""
    content = request.content
    if content.is_eof():  # It came with the head, as small bodies do; nothing can be waited for.
        body = content.read_nowait()
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while part := await content.readany():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "slow-body", f"the body did not arrive within {seconds:g} s", close=True) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Refused(400, "body", f"the body broke off: {type(error).__name__}", close=True) from None
    return b"".join(parts)


async def read_model(request: web.BaseRequest, model: type[M], seconds: float) -> M:
    """The body as ``model``; an empty body counts as ``{}``. Refuses with 400 and a sentence for each mistake."""
    if request.content_length == 0 or not request.can_read_body:
        body = b"{}"
    else:
        check_head(request, _SMALL)
        body = await read_body(request, _SMALL, seconds) or b"{}"
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(400, "body", "; ".join(map(_sentence, error.errors(include_url=False)))) from None


def _sentence(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else f"the body: {error['msg']}"
