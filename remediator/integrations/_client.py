"""The HTTP client of integrations: bounded, without redirects, and certain about whether a request has left."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.connector import Connection
from yarl import URL

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._address import ForbiddenAddress, SafeResolver, safe_socket


class Unanswered(Exception):
    """A request left and no usable answer came back: whether it was carried out is unknown."""


class Departure:
    """Whether the request of this task has left. ``check`` runs right before its first byte and may raise."""

    def __init__(self, check: Callable[[], None] | None) -> None:
        self.begun = False
        self._check = check

    def begin(self) -> None:
        """Called when the connection stands and the first byte is about to be written."""
        if self._check is not None:
            self._check()
        self.begun = True


_departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


@contextmanager
def departing(check: Callable[[], None] | None = None) -> Iterator[Departure]:
    """Follow the one request sent inside: its ``Departure`` says whether a byte of it was written."""
    departure = Departure(check)
    token = _departure.set(departure)
    try:
        yield departure
    finally:
        _departure.reset(token)


class CheckedRequest(ClientRequest):
    """A request that asks its ``Departure`` before the first byte is written to the established connection."""

    async def send(self, conn: Connection) -> ClientResponse:
        """Write the request, unless the check refuses."""
        departure = _departure.get()
        if departure is not None:
            departure.begin()
        return await super().send(conn)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server said. ``truncated``: more than the limit came. ``broken``: the body ended too early."""

    status: int
    content_type: str
    retry_after: str
    body: bytes
    truncated: bool
    broken: bool


class Client:
    """One session with time-outs, bounded answers and no redirects, cookies, proxies or decompression.

    Every request has a connection of its own: a request on a kept connection that the server is just closing
    would leave in doubt whether it was carried out.
    """

    def __init__(self, *, timeout: float, max_response: int, ca_file: str | None) -> None:
        self._timeout = timeout
        self._max_response = max_response
        self._ca_file = ca_file
        self._session: ClientSession | None = None

    def _open(self) -> ClientSession:
        if self._session is None:
            try:
                context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise PermanentError(f"ca_file {self._ca_file} cannot be used: {error}", reason="tls") from None
            connector = TCPConnector(
                ssl=context,
                resolver=SafeResolver(),
                use_dns_cache=False,
                socket_factory=safe_socket,
                force_close=True,
            )
            self._session = ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                request_class=CheckedRequest,
                auto_decompress=False,
                timeout=ClientTimeout(total=self._timeout),
            )
        return self._session

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        check: Callable[[], None] | None = None,
    ) -> Answer:
        """Send one request; ``url`` is already percent-encoded and goes out as it is.

        Raises TemporaryError or PermanentError if not a byte was sent, Unanswered if it was sent and no status
        came, and what ``check`` raises.
        """
        session = self._open()
        place = url.partition("?")[0]
        with departing(check) as departure:
            try:
                async with session.request(
                    method,
                    URL(url, encoded=True),
                    headers={"Accept-Encoding": "identity", **headers},
                    data=body,
                    allow_redirects=False,
                ) as response:
                    return await self._read(response)
            except (ClientError, OSError) as error:
                if departure.begun:
                    raise Unanswered(f"{method} {place} was sent, but {_explain(error)}") from error
                raise _not_sent(method, place, error) from error

    async def _read(self, response: ClientResponse) -> Answer:
        """The answer with at most ``max_response`` bytes; the status is known even if the body breaks off."""
        data, broken = bytearray(), False
        try:
            async for chunk in response.content.iter_chunked(64 * 1024):
                data += chunk
                if len(data) > self._max_response:
                    break
        except (ClientError, OSError):
            broken = True
        return Answer(
            status=response.status,
            content_type=response.headers.get("Content-Type", "")[:200],
            retry_after=response.headers.get("Retry-After", "")[:100],
            body=bytes(data[: self._max_response]),
            truncated=len(data) > self._max_response,
            broken=broken,
        )

    async def close(self) -> None:
        """Release the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _explain(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer came in time"
    return f"the connection broke before an answer came ({type(error).__name__})"


def _not_sent(method: str, place: str, error: Exception) -> ActionError:
    """The word for a request of which no byte left."""
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(cause, ForbiddenAddress):
        return PermanentError(f"{method} {place}: {cause.strerror}", reason="address")
    if isinstance(error, ClientConnectorCertificateError):
        return PermanentError(f"{method} {place}: the certificate is not trusted: {error}", reason="tls")
    if isinstance(error, asyncio.TimeoutError):
        return TemporaryError(f"{method} {place}: no connection in time; nothing was sent", reason="connect")
    detail = getattr(cause, "strerror", None) or type(error).__name__
    return TemporaryError(f"{method} {place}: no connection ({detail}); nothing was sent", reason="connect")
