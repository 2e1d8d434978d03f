"""The one writer of a SQLite store: a thread that puts all waiting operations into one commit (group commit).

Why a thread: a commit waits for the disk, and the event loop must not. Why one: SQLite has one writer anyway, and
an audit chain has one head. Operations check before they write, so that one refusal costs its neighbours nothing.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from remediator.audit import GENESIS, Entry, seal
from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable

R = TypeVar("R")
MAX_BATCH = 256


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


# Rows per statement: one call into SQLite for many rows, because each call hands the interpreter lock over.
_CHUNKS = (64, 16, 4, 1)


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
    """Runs operations in order; all that wait share a commit. ``inline`` runs each at once in the caller's thread.

    ``abandoned`` is called when a commit failed, before the next operation runs.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, *, inline: bool, abandoned: Callable[[], None]
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._inline = inline
        self._abandoned = abandoned
        self._queue: queue.SimpleQueue[tuple[Callable[[Transaction], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._high = 0.0
        self._sequence, self._head = 0, GENESIS
        self._head_known = False

    def start(self) -> None:
        """Start the thread; must be called on the event loop."""
        if not self._inline:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(self._loop,), name="sqlite-writer", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """Finish what was submitted and end the thread."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    async def submit(self, operation: Callable[[Transaction], R]) -> R:
        """The result of ``operation`` after its commit. It may run twice: it must act only through its transaction."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._loop is None:
            return self.commit_now(operation)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put((operation, future))
        result: R = await future
        return result

    def commit_now(self, operation: Callable[[Transaction], R]) -> R:
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

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            ending = None in batch
            pairs = [pair for pair in batch if pair is not None]
            if pairs:
                results = self._commit([operation for operation, _ in pairs])
                loop.call_soon_threadsafe(_resolve, [future for _, future in pairs], results)

    def _commit(self, operations: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
        try:
            return self._together(operations)
        except sqlite3.Error as error:
            return [StoreUnavailable(f"the store cannot commit: {error}") for _ in operations]
        except Exception as error:  # noqa: BLE001 - it is handed to whose operation it is; the thread must go on
            # One operation failed after it had written, or records what is no JSON: each gets a commit of its own, so
            # that only that one fails.
            if len(operations) == 1:
                return [error.__cause__ if isinstance(error, _Dirty) else error]
            return [self._commit([operation])[0] for operation in operations]

    def _together(self, operations: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
        connection = self.connection
        if not self._head_known:
            self._read_head()
        self._high = max(self._high, self._clock.now())
        transaction = Transaction(connection, self._high)
        results: list[Any] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for operation in operations:
                self._one(operation, transaction, results)
            head = self._seal(transaction)
            crashpoint("store.before_commit")
            connection.execute("COMMIT")
        except BaseException:
            self._abandon()
            raise
        crashpoint("store.after_commit")
        self._sequence, self._head = head
        return results

    def _one(self, operation: Callable[[Transaction], Any], transaction: Transaction, results: list[Any]) -> None:
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
