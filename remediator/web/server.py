"""Listens: the application made of the table of routes, on a server hardened against slow and too many clients."""

from __future__ import annotations

import asyncio
import functools
import ssl as tls
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from remediator.errors import Conflict, InputError, NotFound, StateError, StoreUnavailable
from remediator.log import logger
from remediator.web.answers import Refused, answer, problem
from remediator.web.auth import ANONYMOUS, Authenticator, check_listen
from remediator.web.call import Call
from remediator.web.openapi import document
from remediator.web.routes import OPENAPI, ROUTES, WEBHOOK, Route
from remediator.web.service import Service
from remediator.web.webhook import Webhook

_log = logger("web")
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Server: remediator\r\n\r\n"
)
_LINGER = 2.0
"""Seconds in which the rest of a refused body is read and thrown away, so that the client can read why."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guarded(RequestHandler):
    """One connection. Closed when no request head has arrived in time, and at once when there are too many.

    aiohttp has no time-out for a slow head and no cap on connections. The idle time-out of aiohttp bounds the heads of
    later requests on the same connection.
    """

    __slots__ = ("_head_timer", "_limits", "_over")

    def __init__(self, manager: web.Server, limits: Limits, **options: Any) -> None:
        super().__init__(manager, **options)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and begin to wait for its first head."""
        if self._limits.open >= self._limits.connections:
            self._over = True
            cast(asyncio.Transport, transport).write(_FULL)
            transport.close()
            return
        self._limits.open += 1
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._limits.head_timeout, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        """Nothing is read from a connection that was turned away."""
        if not self._over:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting and waiting."""
        if self._over:
            return
        self._limits.open -= 1
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _head_is_late(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be parsed as HTTP gets a problem like everything else, and one line in the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        if status >= 500:
            _log.error("a bug ended a request", exc_info=exc)
            return problem(Refused(500, "bug", close=True))
        _log.info("a request could not be read", address=request.remote, error=type(exc).__name__)
        return problem(Refused(status, "http", "the request is not valid HTTP", close=True))


class Limits:
    """How many connections are open, and what bounds them."""

    def __init__(self, connections: int, head_timeout: float) -> None:
        self.connections = connections
        self.head_timeout = head_timeout
        self.open = 0


class Server:
    """A listening server; ``port`` is the real one when 0 was asked for."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server, limits: Limits) -> None:
        self._runner = runner
        self._listener = listener
        self.limits = limits
        self.port: int = listener.sockets[0].getsockname()[1]

    async def stop(self, grace: float = 10.0) -> None:
        """Listen no more, let requests in progress finish for at most ``grace`` seconds, close every connection."""
        self._listener.close()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(grace)
        await self._runner.cleanup()


async def start(service: Service, *, host: str, port: int, ssl: tls.SSLContext | None = None) -> Server:
    """Listen on ``host`` and ``port`` (0: a free one). Raises InputError for bad addresses and token files."""
    options = service.options
    check_listen(options, host)
    auth = Authenticator(service)
    auth.check_files()
    runner = web.AppRunner(
        _application(service, auth),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=options.keep_alive,
        lingering_time=_LINGER,
    )
    await runner.setup()
    manager = cast(web.Server, runner.server)  # There is one after setup().
    limits = Limits(options.connections, options.head_timeout)
    loop = asyncio.get_running_loop()
    # aiohttp keeps the options of its connections to itself; a test and the pinned minor version watch over this line.
    factory = functools.partial(Guarded, manager, limits, loop=loop, **manager._kwargs)
    try:
        listener = await loop.create_server(factory, host, port, ssl=ssl, backlog=1024)
    except OSError as error:
        await runner.cleanup()
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return Server(runner, listener, limits)


def _application(service: Service, auth: Authenticator) -> web.Application:
    app = web.Application()
    webhook = Webhook(service, auth)
    app.router.add_route("POST", WEBHOOK, webhook.handle, expect_handler=webhook.expect)
    page = document()

    async def openapi(_call: Call) -> web.Response:
        """This document."""
        return answer(page)

    by_path: dict[str, list[Route]] = {}
    for route in (*ROUTES, Route("GET", OPENAPI, "openapi", openapi, dict, role=None)):
        by_path.setdefault(route.path, []).append(route)
    for path, routes in by_path.items():
        resource = app.router.add_resource(path)
        for route in routes:
            handler = _guarded(service, auth, route)
            resource.add_route(route.method, handler, expect_handler=_no_expectations)
            if route.method == "GET":
                resource.add_route("HEAD", handler, expect_handler=_no_expectations)
    allowed = {path: _methods(routes) for path, routes in by_path.items()} | {WEBHOOK: "POST"}
    for each in list(app.router.resources()):
        if isinstance(each, web.Resource):
            each.add_route("*", _wrong_method(allowed[each.canonical]), expect_handler=_no_expectations)
    app.router.add_route("*", "/{tail:.*}", _unknown, expect_handler=_no_expectations)
    return app


def _methods(routes: list[Route]) -> str:
    found = {route.method for route in routes}
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


async def _no_expectations(_request: web.Request) -> None:
    # A client that waits for "100 Continue" sends its body after a second anyhow; nobody unknown is asked for it.
    return None


def _wrong_method(allowed: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return problem(Refused(405, "method", f"this path takes {allowed}", headers={"Allow": allowed}))

    return handler


async def _unknown(_request: web.Request) -> web.StreamResponse:
    return problem(Refused(404, "not-found", "there is nothing at this path; /api/v1/openapi.json lists what there is"))


def _guarded(service: Service, auth: Authenticator, route: Route) -> Handler:
    """The handler of ``route`` behind its role, with every exception turned into its problem."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            who = ANONYMOUS if route.role is None else await auth.admit(request, route.role)
            return await route.handle(Call(request, service, who))
        except Exception as error:  # noqa: BLE001 - every exception becomes a problem; those we do not know are logged.
            return problem(_refused(error, request))

    return handler


def _refused(error: Exception, request: web.Request) -> Refused:
    match error:
        case Refused():
            return error
        case StoreUnavailable():
            return Refused(503, "unavailable", str(error), headers={"Retry-After": "5"})
        case NotFound():
            return Refused(404, "not-found", str(error))
        case Conflict() | StateError():
            return Refused(409, "conflict", str(error))
        case InputError():
            return Refused(400, "input", str(error))
        case ConnectionError() | TimeoutError():
            raise error  # The client is gone or takes nothing; there is nobody to answer.
        case _:
            _log.error("a bug ended a request", method=request.method, path=request.path, exc_info=error)
            return Refused(500, "bug")
