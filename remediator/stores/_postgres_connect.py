"""How the PostgreSQL store connects: what every session is told, how long anything may take, what a failure means."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from remediator.errors import StoreError, StoreUnavailable

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where the database is and how long to wait for it. Times are seconds.

    ``url`` is a connection URI of libpq (postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING); several
    hosts are tried in turn until one accepts writes. ``password_file`` is read again for every new connection, so that
    a password can be rotated while the service runs. ``statement`` bounds one statement, on both sides of the
    connection. ``idle`` is how long a replica may keep others waiting inside a transaction without saying anything:
    then the server ends its session, so that a frozen process cannot hold a lock.
    """

    url: str
    schema: str
    password_file: str
    connect: float
    statement: float
    idle: float

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise StoreError(f'"{self.schema}" cannot be the schema; use up to 40 of a-z, 0-9 and _, like remediator')
        if urlsplit(self.url).scheme not in ("postgresql", "postgres"):
            raise StoreError("the address of the store is not like postgresql://user@host:5432/database")

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        # Never the part before the @, which may hold a password.
        return f"{parts.netloc.rpartition('@')[2] or 'the local server'}{parts.path}"

    @property
    def channel(self) -> str:
        """The name under which replicas on this schema wake each other."""
        return f"remediator_{self.schema}"

    def parameters(self, name: str) -> dict[str, Any]:
        """What asyncpg is given for every connection; ``name`` shows in pg_stat_activity."""
        milliseconds = str(round(self.statement * 1000))
        found: dict[str, Any] = {
            "dsn": self.url,
            "timeout": self.connect,
            "command_timeout": self.statement,
            "target_session_attrs": "read-write",
            "server_settings": {
                "application_name": name,
                # Nobody's temporary or public table can stand in for one of ours.
                "search_path": f"{self.schema}, pg_temp",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": str(round(self.idle * 1000)),
                "default_transaction_isolation": "read committed",
                # Every query is served by an index. Without this, plans made while the tables were still small read
                # whole tables until statistics are gathered; and compiling a query takes longer than running it.
                "enable_seqscan": "off",
                "jit": "off",
            },
        }
        if self.password_file:
            found["password"] = self._password
        return found

    def _password(self) -> str:
        return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")

    async def connection(self, name: str) -> Any:
        """A connection of its own. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(self.connect * 2):
                connection = await asyncpg.connect(**self.parameters(name))
                try:
                    await prepare(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except Exception as error:  # noqa: BLE001 - every way in which connecting fails means the same
            raise failure(error, self) from None
        return connection


async def prepare(connection: Any) -> None:
    """Make a new session one that may be trusted with what it acknowledges."""
    # A commit is told to the sender, so it must be on disk; stronger settings (remote_apply) stay as they are.
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


def failure(error: Exception, address: Address) -> Exception:
    """What a failure of the database or of the way to it means to callers; any other exception is itself."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError):
        return StoreError(f"the store cannot keep what it was given: {error}")
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"PostgreSQL at {address} did not answer in time")
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
        return StoreUnavailable(f"PostgreSQL at {address}: {error}")
    return error


AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Failures after which the same transaction, begun anew, will succeed (SQLSTATE 40001 and 40P01)."""
