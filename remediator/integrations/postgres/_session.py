"""Talking to one PostgreSQL server: connections, transactions, and what their failures mean."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import asyncpg

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.postgres.target import PostgresTarget

T = TypeVar("T")

_CREDENTIALS = (asyncpg.InvalidAuthorizationSpecificationError,)
_CONFLICT = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
_CERTAIN_AT_COMMIT = (asyncpg.IntegrityConstraintViolationError, *_CONFLICT)
_CLOSE = 0.5
"""Seconds for saying good-bye; a server that hangs is left without."""


# In this order: a class stands before the classes it belongs to.
_WORDS: tuple[tuple[tuple[type[Exception], ...], type[ActionError], str, str], ...] = (
    (_CREDENTIALS, PermanentError, "credentials", "the credentials are not accepted"),
    ((asyncpg.InsufficientPrivilegeError,), PermanentError, "permission", "the role may not: {}"),
    ((asyncpg.QueryCanceledError,), TemporaryError, "timed_out", "{}"),
    (_CONFLICT, TemporaryError, "conflict", "{}"),
    (_AWAY, TemporaryError, "not_now", "{}"),
    ((asyncpg.PostgresError,), PermanentError, "refused", "{}"),
    # What asyncpg says of a value that does not fit its parameter.
    ((ValueError,), PermanentError, "parameter", "{}"),
    ((TimeoutError,), TemporaryError, "unanswered", "no answer in time"),
)


def word(error: Exception, where: str) -> ActionError:
    """The word for something that was certainly not carried out, or rolled back."""
    text = str(error).partition("\n")[0][:500]
    for kinds, kind, reason, said in _WORDS:
        if isinstance(error, kinds):
            return kind(f"{where}: {said.format(text)}", reason=reason)
    return TemporaryError(f"{where}: no connection ({type(error).__name__})", reason="connect")


_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class _Made(Generic[T]):
    """A result that is there, also where it is None."""

    def __init__(self, value: T) -> None:
        self.value = value


def place(target: PostgresTarget) -> str:
    """The server and database in messages."""
    return f"postgres at {target.host}:{target.port}/{target.database}"


def _tls(target: PostgresTarget) -> ssl.SSLContext | bool:
    if not target.tls:
        return False
    try:
        return ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:
        raise PermanentError(f"ca_file {target.ca_file} cannot be used: {error}", reason="tls") from None


@asynccontextmanager
async def _connected(target: PostgresTarget, seconds: float) -> AsyncIterator[Any]:
    """A connection that is closed politely if all went well, and cut if not."""
    try:
        connection = await asyncpg.connect(
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password(),
            database=target.database,
            ssl=_tls(target),
            timeout=seconds,
            command_timeout=seconds,
            # Named prepared statements do not survive a PgBouncer that hands out servers by transaction.
            statement_cache_size=0,
            server_settings={"application_name": "remediator"},
        )
    except ssl.SSLCertVerificationError as error:
        raise PermanentError(f"{place(target)}: the certificate is not trusted: {error}", reason="tls") from None
    except _FAILURES as error:
        raise word(error, place(target)) from None
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    try:
        await asyncio.wait_for(connection.close(), _CLOSE)
    except _FAILURES:
        connection.terminate()


async def _begin(connection: Any, how: str, seconds: float) -> None:
    # Plain SET would outlive the transaction on a server that PgBouncer hands to somebody else.
    milliseconds = max(1, round(seconds * 1000))
    await connection.execute(
        f"BEGIN {how}; SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {milliseconds}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds + 5000}; SET LOCAL timezone = 'UTC'"
    )


async def look(target: PostgresTarget, work: Callable[[Any], Awaitable[T]], *, seconds: float | None = None) -> T:
    """What ``work`` finds with a connection in a read-only transaction. Raises TemporaryError, PermanentError."""
    limit = seconds or target.timeout
    try:
        async with asyncio.timeout(limit), _connected(target, limit) as connection:
            await _begin(connection, "READ ONLY", limit)
            found = await work(connection)
            await connection.execute("ROLLBACK")
            return found
    except _FAILURES as error:
        raise word(error, place(target)) from None


async def change(
    target: PostgresTarget,
    check: Callable[[], None],
    work: Callable[[Any], Awaitable[T]],
    *,
    seconds: float | None = None,
) -> T:
    """What ``work`` returns after its transaction was committed; ``check`` runs right before the commit.

    Raises TemporaryError and PermanentError, also out of ``work``, when everything was rolled back, and Unanswered
    (unknown) when the commit was sent and no word of its end came.
    """
    limit, committing = seconds or target.timeout, False
    made: _Made[T] | None = None
    try:
        async with asyncio.timeout(limit), _connected(target, limit) as connection:
            check()
            await _begin(connection, "READ WRITE", limit)
            worked = await work(connection)
            check()
            committing = True
            if await connection.execute("COMMIT") != "COMMIT":
                committing = False
                raise TemporaryError(f"{place(target)} rolled the change back", reason="rolled_back")
            made = _Made(worked)
    except _FAILURES as error:
        # Saying good-bye may fail after all is done.
        if made is None and committing and not isinstance(error, _CERTAIN_AT_COMMIT):
            raise Unanswered(f"{place(target)} was told to commit, and no answer came") from error
        if made is None:
            raise word(error, place(target)) from None
    return made.value


async def send(target: PostgresTarget, check: Callable[[], None], query: str, *values: Any) -> list[Any]:
    """The rows of a statement that takes effect as it runs, whatever becomes of its transaction.

    Raises TemporaryError or PermanentError if it certainly was not begun, else Unanswered (unknown).
    """
    begun = False
    rows: list[Any] | None = None
    try:
        async with asyncio.timeout(target.timeout), _connected(target, target.timeout) as connection:
            await _begin(connection, "READ ONLY", target.timeout)
            check()
            begun = True
            rows = list(await connection.fetch(query, *values))
    except _FAILURES as error:
        if not begun:
            raise word(error, place(target)) from None
        if rows is None:
            raise Unanswered(f"{place(target)} was told, and no complete answer came") from error
    return rows or []


def all_visible(target: PostgresTarget, rows: Iterable[Any]) -> None:
    """Raises PermanentError if PostgreSQL hid something: what is not seen must not count as not there."""
    if any(row["hidden"] for row in rows):
        raise PermanentError(
            f"{place(target)} hides what other roles do; grant pg_read_all_stats to {target.user}", reason="permission"
        )
