"""Who asks, and may they: bearer tokens, roles, and what protects a server without tokens on this machine.

Sources: RFC 6750 (bearer tokens), RFC 9110 section 11 (401 and WWW-Authenticate), OWASP's notes on DNS rebinding and
on cross-site request forgery (Origin, Sec-Fetch-Site).
"""

from __future__ import annotations

import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from remediator.audit import Entry
from remediator.errors import InputError, StoreUnavailable
from remediator.log import logger
from remediator.web.answers import Refused
from remediator.web.service import Role, Service, User, WebOptions
from remediator.web.tokens import Token, TokenFile, bearer, find

_log = logger("web")
_AGAIN = 3600.0
"""A token in use is recorded once an hour and address."""
_FAILURES = 60.0
"""Failed tries of an address are recorded at most once in this time, with their number."""
_ADDRESSES = 4096
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")


class Principal(NamedTuple):
    """Who asks. ``role`` is None for those who may only deliver alerts."""

    name: str
    role: Role | None

    @property
    def actor(self) -> str:
        """The name in the audit log."""
        return f"user:{self.name}"


ANONYMOUS = Principal("anonymous", Role.ADMIN)
"""Anybody on this very machine, as long as no users are configured."""


@functools.lru_cache(1024)
@lru_cache(maxsize=1024)
def is_loopback(address: str | None) -> bool:
    """Whether an IP address is this machine's own."""
    try:
        return address is not None and ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def check_listen(options: WebOptions, host: str) -> None:
    """Refuse to listen for other machines while anybody could do anything. Raises InputError with what to write."""
    if host == "localhost" or is_loopback(host):
        return
    if not options.users and not options.tokens_file:
        raise InputError(
            f"without tokens or users the server listens on loopback only, and {host} is not; "
            "set intake.tokens_file and users, or listen on 127.0.0.1"
        )


class Authenticator:
    """Decides who a request is from and whether that is enough; records log-ins in the audit."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._options: WebOptions | None = None
        self._senders: TokenFile | None = None
        self._people: Sequence[tuple[User, TokenFile]] = ()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check_files(self) -> None:
        """Read every token file once. Raises InputError for the first that is missing, empty or weak."""
        self._refresh()
        if self._senders is not None:
            self._senders.tokens()
        for _, file in self._people:
            file.tokens()

    def _refresh(self) -> None:
        options = self._service.options
        if options is not self._options and options != self._options:
            self._options = options
            self._senders = TokenFile(options.tokens_file, "alertmanager") if options.tokens_file else None
            self._people = [(user, TokenFile(user.token_file, user.name)) for user in options.users]

    async def sender(self, request: web.BaseRequest) -> str:
        """The name of who delivers alerts: a token of ``intake.tokens_file``, or a user who is at least operator."""
        self._refresh()
        if self._senders is None and not self._people:
            self._check_local(request)
            return "anonymous"
        token = bearer(request.headers.get("Authorization", ""))
        if token:
            name = self._sender_of(token)
            if name is not None:
                # The hot path: one look into a dictionary once the token has been recorded.
                await self._succeeded(request, f"alertmanager:{name}")
                return name
            person = self._person_of(token)
            if person is not None:
                await self._succeeded(request, person.actor)
                self._check_role(person, Role.OPERATOR)
                return person.name
        raise await self._denied(request, bool(token))

    async def admit(self, request: web.BaseRequest, wanted: Role) -> Principal:
        """Who asks, if their role covers ``wanted``. Raises Refused (401, 403)."""
        self._refresh()
        if request.method != "GET" and request.method != "HEAD":
            _check_origin(request)
        if not self._people and _is_local(request):
            self._check_local(request)
            return ANONYMOUS
        token = bearer(request.headers.get("Authorization", ""))
        person = self._person_of(token) if token else None
        if person is None:
            raise await self._denied(request, bool(token))
        await self._succeeded(request, person.actor)
        self._check_role(person, wanted)
        return person

    def _sender_of(self, token: str) -> str | None:
        if self._senders is None:
            return None
        return find(_readable(self._senders), token)

    def _person_of(self, token: str) -> Principal | None:
        found = None
        for user, file in self._people:  # All of them, always: the time says nothing about which one fits.
            if find(_readable(file), token) is not None:
                found = Principal(user.name, user.role)
        return found

    def _check_role(self, person: Principal, wanted: Role) -> None:
        if person.role is None or not person.role.covers(wanted):
            raise Refused(403, "role", f'this needs the role {wanted}; "{person.name}" is {person.role or "no user"}')

    def _check_local(self, request: web.BaseRequest) -> None:
        # A page in the operator's browser can reach loopback under a name of its own (DNS rebinding): the name tells.
        if not _is_local(request):
            raise Refused(401, "unauthorized", headers={"WWW-Authenticate": "Bearer"})
        if not _names_loopback(request.headers.get("Host", "")):
            raise Refused(403, "host", "without users the server answers to localhost, 127.0.0.1 and [::1] only")

    async def _succeeded(self, request: web.BaseRequest, actor: str) -> None:
        key, now = (actor, request.remote or ""), self._service.clock.monotonic()
        last = self._seen.get(key)
        if last is not None and now - last < _AGAIN:
            return
        await self._service.store.append(
            Entry(event="login.succeeded", actor=actor, detail={"address": key[1], "path": request.path[:200]})
        )
        self._seen[key] = now
        if len(self._seen) > _ADDRESSES:
            self._seen.popitem(last=False)

    async def _denied(self, request: web.BaseRequest, tried: bool) -> Refused:
        refused = Refused(401, "unauthorized", headers={"WWW-Authenticate": "Bearer"})
        if not tried:
            return refused  # Nobody tried to log in: a probe without a token is no failed log-in.
        address, now = request.remote or "", self._service.clock.monotonic()
        since, count = self._failed.get(address, (float("-inf"), 0))
        if now - since < _FAILURES:
            self._failed[address] = (since, count + 1)
            return refused
        self._failed[address] = (now, 0)
        self._failed.move_to_end(address)
        if len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)
        detail = {"address": address, "failures": count + 1, "path": request.path[:200]}
        _log.warning("somebody came with a token that is not valid", **detail)
        try:
            await self._service.store.append(Entry(event="login.failed", actor="unknown", detail=detail))
        except StoreUnavailable as error:
            _log.error("a failed log-in could not be recorded", error=str(error))
        return refused


@functools.lru_cache(1024)
def _names_loopback(host: str) -> bool:
    name = host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
    return name in _LOOPBACK_NAMES


def _readable(file: TokenFile) -> tuple[Token, ...]:
    try:
        return file.tokens()
    except InputError as error:
        # Not 401: Alertmanager gives up on a 401 until its next interval, and comes back at once after a 503.
        _log.error("a token file is not usable, so nobody is let in by it", error=str(error))
        raise Refused(503, "tokens", headers={"Retry-After": "5"}) from None


def _is_local(request: web.BaseRequest) -> bool:
    return is_loopback(request.remote) and not any(name in request.headers for name in _FORWARDED)


def _check_origin(request: web.BaseRequest) -> None:
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise Refused(403, "origin", "this request was made by a page of another site")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "origin", "this request was made by a page of another site")
