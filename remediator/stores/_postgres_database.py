"""The pool of a PostgreSQL store, and how a verb runs on it: bounded in time, in one transaction, retried if it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable
from remediator.stores._postgres_connect import AGAIN, Address, failure, prepare
from remediator.stores._postgres_session import Session, Transaction, lock_id

R = TypeVar("R")
_PAUSES = (0.0, 0.01, 0.05, 0.2)
"""Seconds to wait after each try of a transaction that the server asked to begin anew; then there is one last try."""

Name = tuple[str, ...]
"""What an advisory lock is about, such as ("limit", "rule", "grow-workers")."""


class Database:
    """Connections to one schema. ``verb`` is how long a whole verb may take, in seconds."""

    def __init__(self, address: Address, *, size: int, acquire: float, verb: float) -> None:
        self.address = address
        self._size = size
        self._acquire = acquire
        self._verb = verb
        self._pool: Any = None

    async def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        self._pool = await asyncpg.create_pool(
            **self.address.parameters("remediator"), min_size=0, max_size=self._size, init=prepare, reset=_keep
        )

    async def close(self) -> None:
        """Let what is under way finish, then close every connection."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._verb):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    async def read(self, work: Callable[[Session], Awaitable[R]]) -> R:
        """The result of a few statements that change nothing, or of one that is its own transaction."""
        async with self._within_time(), self._connection() as connection:
            return await work(Session(connection))

    async def write(
        self, work: Callable[[Transaction], Awaitable[R]], *, alone: Sequence[Name] = (), shared: Sequence[Name] = ()
    ) -> R:
        """The result of ``work`` after its commit. It may run again: it must act only through its transaction.

        ``shared`` and then ``alone`` name what is locked before anything is read, each in one order for all replicas.
        """
        begin = self._begin(alone, shared)
        async with self._within_time():
            for pause in _PAUSES:
                try:
                    return await self._once(work, begin)
                except AGAIN:
                    await asyncio.sleep(pause)
            return await self._once(work, begin)

    def _begin(self, alone: Sequence[Name], shared: Sequence[Name]) -> str:
        schema = self.address.schema
        parts = ["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"]
        parts += [f"SELECT pg_advisory_xact_lock_shared({lock_id(schema, *name)})" for name in shared]
        # Numbers that were made here; and one order for all, so that two transactions never wait for each other.
        numbers = sorted({lock_id(schema, *name) for name in alone})
        if numbers:
            wanted = ",".join(map(str, numbers))
            parts.append(f"SELECT count(pg_advisory_xact_lock(n)) FROM unnest('{{{wanted}}}'::bigint[]) AS n")  # noqa: S608
        return "; ".join(parts)

    async def _once(self, work: Callable[[Transaction], Awaitable[R]], begin: str) -> R:
        async with self._connection() as connection:
            transaction = Transaction(connection, self.address.channel)
            try:
                await connection.execute(begin)
                result = await work(transaction)
                await transaction.finish()
                crashpoint("store.before_commit")
                done = await connection.execute("COMMIT")
                if done != "COMMIT":  # The server rolled back what had failed in it.
                    raise StoreUnavailable(f"PostgreSQL at {self.address} did not commit")
            except TimeoutError:
                raise  # The session may still be busy: it is closed, not asked.
            except Exception:
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                    await connection.execute("ROLLBACK")
                raise
            crashpoint("store.after_commit")
            return result

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise StoreUnavailable("the store is not open")
        pool = self._pool
        connection = await pool.acquire(timeout=self._acquire)
        try:
            yield connection
        except BaseException as error:
            # Only what the server itself said, or a refusal of ours after a rollback, leaves a session that is known
            # to be clean. After a time-out or a cancellation nobody knows what it is doing.
            with suppress(asyncpg.InterfaceError):  # It has been closed already.
                unknown = isinstance(error, TimeoutError) or not isinstance(error, Exception)
                if unknown or connection.is_in_transaction():
                    connection.terminate()
            raise
        finally:
            await pool.release(connection)

    @asynccontextmanager
    async def _within_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._verb):
                yield
        except Exception as error:
            meant = failure(error, self.address)
            if meant is error:
                raise
            raise meant from error


async def _keep(connection: Any) -> None:
    """Nothing to put back: no verb changes its session, so the round trip that would do it is saved."""
