"""The one writer of a SQLite store: all operations that wait go into one commit (group commit).

Statements run on the event loop, for they are short and find their pages in memory; in a thread beside it each of them
would pass the interpreter lock to and fro, which costs more than the statement. What waits for the disk or for another
process is done in a thread: every commit, and a batch that did not get the file at once. Why one writer: SQLite has one
anyway, and an audit chain has one head. Operations check before they write, so that one refusal costs its neighbours
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from remediator.audit import GENESIS, Entry, seal
from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable

R = TypeVar("R")
MAX_BATCH = 64
"""Operations in one transaction: the event loop does nothing else while their statements run."""
_PATIENCE = 5000
"""Milliseconds to wait for another process that has the file."""


class Transaction:
    """What an operation works with: the connection, one time for the whole commit, and the audit entries so far."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.entries: list[Entry] = []

    def all(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        """The first row of a query, or None."""
        return self.connection.execute(sql, values).fetchone()

    def run(self, sql: str, *values: Any) -> int:
        """Execute a statement; the number of rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def record(self, *entries: Entry) -> None:
        """Add audit entries to this commit."""
        self.entries += entries


Operation = Callable[[Transaction], R]


class _Threads(NamedTuple):
    loop: asyncio.AbstractEventLoop
    disk: ThreadPoolExecutor


class _Waiting(NamedTuple):
    operation: Operation[Any]
    future: asyncio.Future[Any]
    long: bool


# Rows per statement: one call into SQLite for many rows, because each call hands the interpreter lock over.
_CHUNKS = (64, 16, 4, 2, 1)


def insert_rows(connection: sqlite3.Connection, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows with few statements. ``table`` and ``columns`` are our own constants, never input."""
    width = columns.count(",") + 1
    one, at = "(" + ",".join("?" * width) + ")", 0
    for size in _CHUNKS:
        while len(rows) - at >= size:
            values = [value for row in rows[at : at + size] for value in row]
            connection.execute(f"INSERT INTO {table} ({columns}) VALUES {','.join([one] * size)}", values)  # noqa: S608
            at += size


class Writer:
    """Runs operations in order; all that wait share a commit. ``inline`` commits each at once, on the event loop too.

    ``abandoned`` is called when a commit failed, before the next operation runs.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, *, inline: bool, abandoned: Callable[[], None]
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._inline = inline
        self._abandoned = abandoned
        self._waiting: list[_Waiting] = []
        self._threads: _Threads | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._high = 0.0
        self._sequence, self._head = 0, GENESIS
        self._head_known = False

    def start(self) -> None:
        """Make ready; must be called on the event loop."""
        if not self._inline:
            disk = ThreadPoolExecutor(1, thread_name_prefix="sqlite-commit")
            self._threads = _Threads(asyncio.get_running_loop(), disk)
            self._patience(0)

    async def stop(self) -> None:
        """Finish what was submitted and end the thread."""
        self._closed = True
        await self._idle.wait()
        if self._threads is not None:
            await asyncio.to_thread(self._threads.disk.shutdown)

    async def submit(self, operation: Operation[R], *, long: bool = False) -> R:
        """The result of ``operation`` after its commit. It may run twice: it must act only through its transaction.

        A ``long`` one runs in the thread and in a commit of its own, so that the event loop goes on meanwhile.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._threads is None:
            return self.commit_now(operation)
        future: asyncio.Future[Any] = self._threads.loop.create_future()
        self._waiting.append(_Waiting(operation, future, long))
        if self._idle.is_set():
            self._idle.clear()
            # Not at once: what others submit in this turn of the loop shares the commit.
            self._threads.loop.call_soon(self._next, self._threads)
        result: R = await future
        return result

    def _next(self, threads: _Threads) -> None:
        """Begin the next batch. From here until ``_done`` the connection belongs to it, on one thread at a time."""
        batch = self._take()
        operations = [waiting.operation for waiting in batch]
        if batch[0].long:
            job = threads.disk.submit(self._patiently, operations)
        else:
            try:
                results, head = self._execute(operations)
            except Exception:  # noqa: BLE001 - whatever it was, the thread does it again and tells each its own answer
                job = threads.disk.submit(self._patiently, operations)
            else:
                job = threads.disk.submit(self._committed, results, head)
        job.add_done_callback(functools.partial(self._ended, threads, [waiting.future for waiting in batch]))

    def _take(self) -> list[_Waiting]:
        count = next((n for n, waiting in enumerate(self._waiting) if waiting.long), MAX_BATCH)
        count = max(1, min(count, MAX_BATCH))
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _ended(self, threads: _Threads, futures: Sequence[asyncio.Future[Any]], job: Future[list[Any]]) -> None:
        # Called by the thread. A loop that is closed has nobody left who waits.
        error = job.exception()
        results = job.result() if error is None else [error] * len(futures)
        with contextlib.suppress(RuntimeError):
            threads.loop.call_soon_threadsafe(self._done, threads, futures, results)

    def _done(self, threads: _Threads, futures: Sequence[asyncio.Future[Any]], results: Sequence[Any]) -> None:
        _resolve(futures, results)
        if self._waiting:
            self._next(threads)
        else:
            self._idle.set()

    def _committed(self, results: list[Any], head: tuple[int, bytes]) -> list[Any]:
        try:
            self._finish(head)
        except sqlite3.Error as error:
            return [_unavailable(error) for _ in results]
        return results

    def _patiently(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run and commit in the thread, which may wait for another process that has the file."""
        self._patience(_PATIENCE)
        try:
            return self._commit(operations)
        finally:
            self._patience(0)

    def _patience(self, milliseconds: int) -> None:
        self.connection.execute(f"PRAGMA busy_timeout={milliseconds}")

    def commit_now(self, operation: Operation[R]) -> R:
        """Run one operation in its own commit in this thread."""
        result: R = self._commit([operation])[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def behind(self) -> float:
        """Seconds by which the host's clock has gone back behind the latest committed time; 0 normally."""
        return max(0.0, self._high - self._clock.now())

    def _read_head(self) -> None:
        row = self.connection.execute(
            "SELECT sequence, digest, at FROM audit ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        self._sequence, self._head = (row[0], bytes.fromhex(row[1])) if row else (0, GENESIS)
        self._high = max(self._high, row[2] if row else 0.0)
        self._head_known = True

    def _commit(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        try:
            return self._together(operations)
        except sqlite3.Error as error:
            return [_unavailable(error) for _ in operations]
        except Exception as error:  # noqa: BLE001 - it is handed to whose operation it is; the others must go on
            # One operation failed after it had written, or records what is no JSON: each gets a commit of its own, so
            # that only that one fails.
            if len(operations) == 1:
                return [error.__cause__ if isinstance(error, _Dirty) else error]
            return [self._commit([operation])[0] for operation in operations]

    def _together(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        results, head = self._execute(operations)
        self._finish(head)
        return results

    def _execute(self, operations: Sequence[Operation[Any]]) -> tuple[list[Any], tuple[int, bytes]]:
        """Everything of a transaction but its commit: the results, and the head of the chain that it leads to."""
        results: list[Any] = []
        try:
            if not self._head_known:
                self._read_head()
            self._high = max(self._high, self._clock.now())
            transaction = Transaction(self.connection, self._high)
            self.connection.execute("BEGIN IMMEDIATE")
            for operation in operations:
                self._one(operation, transaction, results)
            return results, self._seal(transaction)
        except BaseException:
            self._abandon()
            raise

    def _finish(self, head: tuple[int, bytes]) -> None:
        try:
            crashpoint("store.before_commit")
            self.connection.execute("COMMIT")
        except BaseException:
            self._abandon()
            raise
        crashpoint("store.after_commit")
        self._sequence, self._head = head

    def _one(self, operation: Operation[Any], transaction: Transaction, results: list[Any]) -> None:
        written, recorded = self.connection.total_changes, len(transaction.entries)
        try:
            results.append(operation(transaction))
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_ONE):
                raise
            if self.connection.total_changes != written:
                raise _Dirty from error
            del transaction.entries[recorded:]
            results.append(error)

    def _seal(self, transaction: Transaction) -> tuple[int, bytes]:
        sequence, head, rows = self._sequence, self._head, []
        for entry in transaction.entries:
            sequence += 1
            record, head = seal(entry, sequence, transaction.now, head)
            rows.append(record)
        insert_rows(
            self.connection, "audit", "sequence,at,event,actor,run_id,rule,body,previous,digest", rows
        )
        return sequence, head

    def _abandon(self) -> None:
        # A commit that reported an error may have reached the disk: ask the file again for the head of the chain.
        self._head_known = False
        self._abandoned()
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # The connection is as broken as the commit; the next operation will say so again.


def _unavailable(error: sqlite3.Error) -> StoreUnavailable:
    return StoreUnavailable(f"the store cannot commit: {error}")


_OF_ONE = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""Errors of SQLite that blame what one operation gave it; every other one is about the file and concerns all."""


class _Dirty(Exception):
    """An operation failed after it had written; its cause is the failure."""


def _resolve(futures: Sequence[asyncio.Future[Any]], results: Sequence[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue  # The caller gave up waiting; what was committed stays committed.
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
