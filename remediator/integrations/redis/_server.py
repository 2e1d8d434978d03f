"""One connection to one Redis server: how it is found, what its errors mean, and whether a command has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as LateError

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.redis._cluster import Node, parse_nodes
from remediator.integrations.redis._names import host_and_port

if TYPE_CHECKING:
    from remediator.integrations.redis.target import RedisTarget

_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError)
# Each of these says that the command was not carried out and may be later (redis.io/docs/reference/cluster-spec).
_LATER = (BusyLoadingError, ClusterDownError, MovedError, TryAgainError, ReadOnlyError, OutOfMemoryError)
_CLOSE = 0.5
"""Seconds for saying good-bye; a server that hangs is left without."""


# In this order: a class stands before the classes it belongs to.
_WORDS: tuple[tuple[tuple[type[Exception], ...], type[ActionError], str, str], ...] = (
    ((NoPermissionError,), PermanentError, "permission", "the user may not ({})"),
    (_REFUSED, PermanentError, "credentials", "the credentials are not accepted"),
    (_LATER, TemporaryError, "not_now", "not now ({})"),
    ((ResponseError,), PermanentError, "refused", "{}"),
    ((TimeoutError, LateError), TemporaryError, "unanswered", "no answer in time"),
)


def _word(error: Exception, what: str, where: str) -> ActionError:
    """The word for a command that was certainly not carried out."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return PermanentError(f"{what} at {where}: the certificate is not trusted", reason="tls")
    for kinds, kind, reason, said in _WORDS:
        if isinstance(error, kinds):
            return kind(f"{what} at {where}: {said.format(str(error)[:300])}", reason=reason)
    return TemporaryError(f"{what} at {where}: no connection ({type(error).__name__})", reason="connect")


class Server:
    """A server that has answered, at ``host:port``; ``acted`` is true once a command that changes something left."""

    def __init__(self, client: Redis, address: str) -> None:
        self.address = address
        self.acted = False
        self._send: Any = client.execute_command

    async def ask(self, *words: str | int) -> Any:
        """The answer to a command that changes nothing. Raises TemporaryError, PermanentError."""
        try:
            return await self._send(*words)
        except (RedisError, OSError) as error:
            raise _word(error, _named(words), self.address) from None

    async def act(self, check: Callable[[], None], *words: str | int) -> Any:
        """Send a command that changes something; ``check`` runs right before.

        Raises TemporaryError or PermanentError if the server refused it, and Unanswered (unknown) if it said nothing.
        """
        check()
        self.acted = True
        try:
            return await self._send(*words)
        except (ResponseError, *_REFUSED) as error:
            raise _word(error, _named(words), self.address) from None
        except (RedisError, OSError) as error:
            raise Unanswered(f"{_named(words)} was sent to {self.address}, and no answer came") from error

    async def act_script(self, check: Callable[[], None], script: str, keys: Sequence[str], *values: str | int) -> int:
        """Run one of our own scripts, which Redis carries out whole or not at all; its answer is a number."""
        return int(await self.act(check, "EVAL", script, len(keys), *keys, *values))

    async def info(self, section: str) -> dict[str, Any]:
        """A section of INFO, numbers as numbers (redis.io/commands/info)."""
        found: dict[str, Any] = await self.ask("INFO", section)
        return found


def _named(words: tuple[str | int, ...]) -> str:
    """The command without its values."""
    return str(words[0]) if words[0] not in ("CLUSTER", "SENTINEL") else f"{words[0]} {words[1]}"


def _options(target: RedisTarget) -> dict[str, Any]:
    # Anything the library tries by itself could carry a command out twice, or wait longer than anybody asked.
    return {
        "username": target.username,
        "password": target.password(),
        "socket_timeout": target.timeout,
        "socket_connect_timeout": target.timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "health_check_interval": 0,
        "client_name": "remediator",
        **({"ssl": True, "ssl_ca_certs": target.ca_file} if target.tls else {}),
    }


@asynccontextmanager
async def _connected(target: RedisTarget, address: str) -> AsyncIterator[Server]:
    """The server at ``address``, which has answered once."""
    host, port = host_and_port(address)
    client = Redis(host=host, port=port, db=target.database, single_connection_client=True, **_options(target))
    try:
        server = Server(client, address)
        await server.ask("PING")
        yield server
    finally:
        with suppress(RedisError, OSError, TimeoutError):
            await asyncio.wait_for(client.aclose(), _CLOSE)


async def _master(target: RedisTarget) -> str:
    """The address of the master that the Sentinels agree on."""
    places = [host_and_port(address) for address in target.addresses]
    ours = _options(target)
    theirs = {**ours, "username": None, "password": target.sentinel_password()}
    make: Any = Sentinel
    sentinel = make(places, sentinel_kwargs=theirs, **ours)
    try:
        host, port = await sentinel.discover_master(target.master)
    except (RedisError, OSError) as error:
        raise _word(error, f'asking for the master "{target.master}"', ", ".join(target.addresses)) from None
    finally:
        for client in sentinel.sentinels:
            with suppress(RedisError, OSError, TimeoutError):
                await asyncio.wait_for(client.aclose(), _CLOSE)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def nodes(target: RedisTarget) -> list[Node]:
    """The cluster as the first node that answers sees it. Raises TemporaryError, PermanentError."""
    if target.mode != "cluster":
        raise PermanentError(f"the target is of mode {target.mode} and not a cluster", reason="mode")
    trouble = TemporaryError("no node of the cluster answered in time", reason="unanswered")
    try:
        async with asyncio.timeout(target.timeout):
            for address in target.addresses:
                try:
                    return await _asked(target, address)
                except TemporaryError as error:
                    trouble = error
    except TimeoutError:
        pass
    raise trouble


async def _asked(target: RedisTarget, address: str) -> list[Node]:
    """The cluster as one node sees it; a node that hangs must leave time for the others."""
    share = max(target.timeout / len(target.addresses), min(1.0, target.timeout / 2))
    try:
        async with asyncio.timeout(share), _connected(target, address) as server:
            return parse_nodes(await server.ask("CLUSTER", "NODES"), address)
    except TimeoutError:
        raise TemporaryError(f"{address} did not answer in time", reason="unanswered") from None


async def _place(target: RedisTarget, key: str | None, node: str | None, known: Sequence[Node] | None) -> str:
    """The address of the server that is meant."""
    if target.mode != "cluster":
        if node is not None and node != target.addresses[0]:
            raise PermanentError(f"{node} is not the server of this target", reason="node")
        return await _master(target) if target.mode == "sentinel" else target.addresses[0]
    known = await nodes(target) if known is None else known
    if node is not None:
        # Only what the cluster itself knows: a label must not lead us, with our password, to another address.
        if node not in {each.address for each in known}:
            raise PermanentError(f"{node} is no node of the cluster", reason="node")
        return node
    if key is None:
        raise PermanentError("say which node of the cluster is meant", reason="node")
    slot = key_slot(key.encode())
    for each in known:
        if each.primary and each.holds(slot):
            return each.address
    raise TemporaryError(f"no node of the cluster serves slot {slot} of this key", reason="not_covered")


@asynccontextmanager
async def open_server(
    target: RedisTarget, *, key: str | None, node: str | None, known: Sequence[Node] | None
) -> AsyncIterator[Server]:
    """The server that takes writes, holds ``key`` or is ``node``; all of it within the target's time-out."""
    server: Server | None = None
    try:
        async with asyncio.timeout(target.timeout):
            address = await _place(target, key, node, known)
            async with _connected(target, address) as server:
                if target.mode == "sentinel" and (await server.ask("ROLE"))[0] != b"master":
                    raise TemporaryError(f"{address} is not the master any more", reason="not_master")
                yield server
    except TimeoutError:
        where = server.address if server is not None else ", ".join(target.addresses)
        if server is not None and server.acted:
            raise Unanswered(f"a command was sent to {where}, and no answer came in time") from None
        raise TemporaryError(f"redis at {where} did not answer in time", reason="unanswered") from None
