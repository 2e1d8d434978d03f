"""What happens, as it happens: the stream of server-sent events (html.spec.whatwg.org/multipage/server-sent-events)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from remediator.errors import StoreUnavailable
from remediator.web.answers import HEADERS, Refused
from remediator.web.call import Call
from remediator.web.live import MISSED, LiveEvent, Watcher

EVENT_FILTERS = ("rule", "run")
EVENT_STREAM = "text/event-stream"
_STALLED = 10.0
"""A client that takes nothing for so many seconds is let go."""
_LONGEST = 900.0
"""Seconds after which a stream ends, so that whoever comes back shows a token that is still good."""


async def stream_events(call: Call) -> web.StreamResponse:
    """Server-sent events of runs, deliveries, pauses and rules; ``Last-Event-ID`` goes on where a stream broke off.

    Only runs of ``rule``, or only the run ``run``, if asked for.
    """
    call.know(*EVENT_FILTERS)
    rule, run, last = call.one("rule"), call.one("run"), _last(call)
    # A proxy that gathers answers would make live events late ones.
    headers = {**HEADERS, "Content-Type": f"{EVENT_STREAM}; charset=utf-8", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    if call.request.method == "HEAD":
        return response
    watcher = await call.service.live.join()
    try:
        await response.prepare(call.request)
        stream = _Stream(response, lambda event: (not rule or event.rule == rule) and (not run or event.run == run))
        await stream.say("retry: 1000\n\n")
        async with asyncio.timeout(_LONGEST):
            await _catch_up(call, stream, watcher, last)
            await _go_on(stream, watcher, call.service.options.heartbeat)
    except (TimeoutError, ConnectionError, StoreUnavailable):
        pass  # The stream ends here, and the client comes back to where it was.
    finally:
        call.service.live.leave(watcher)
    return response


class _Stream:
    """The answer under way: writes what the client asked for and drops the rest."""

    def __init__(self, response: web.StreamResponse, wanted: Callable[[LiveEvent], bool]) -> None:
        self._response = response
        self._wanted = wanted

    async def say(self, text: str) -> None:
        """Write a piece of the stream. Raises TimeoutError, ConnectionError."""
        async with asyncio.timeout(_STALLED):
            await self._response.write(text.encode())

    async def tell(self, event: LiveEvent) -> None:
        """Write an event if it is wanted."""
        if self._wanted(event):
            # JSON text has no line feeds of its own, so one line of data is enough.
            data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
            await self.say(f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n")


async def _catch_up(call: Call, stream: _Stream, watcher: Watcher, last: int | None) -> None:
    if last is None:
        return
    if not 0 <= watcher.after - last <= MISSED:
        await stream.say(f'id: {watcher.after}\nevent: reset\ndata: {{"reason":"too much was missed"}}\n\n')
        return
    async for event in call.service.live.missed(last, watcher):
        await stream.tell(event)


async def _go_on(stream: _Stream, watcher: Watcher, heartbeat: float) -> None:
    while True:
        try:
            async with asyncio.timeout(heartbeat):
                event = await watcher.next()
        except TimeoutError:
            await stream.say(":\n\n")
            continue
        if event is None:
            return
        await stream.tell(event)


def _last(call: Call) -> int | None:
    """The number of the last event that the client has seen, or None."""
    text = call.request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    if len(text) > 18 or not text.isascii() or not text.isdigit():
        raise Refused(400, "parameter", "Last-Event-ID: send the id of an event of this stream")
    return int(text)
