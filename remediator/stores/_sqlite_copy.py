"""A SQLite file as one end of a copy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.errors import StoreError
from remediator.stores import _sqlite_file
from remediator.stores._sqlite_writer import insert_rows
from remediator.stores.copy import BATCH, Row, Table


class SqliteEnd:
    """``copy.End`` on a connection that is inside a transaction."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.name = f"sqlite:{path}"

    async def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        """The rows of a table, a batch at a time."""
        sql = f"SELECT {table.columns} FROM {table.name} ORDER BY {table.order}"  # noqa: S608
        cursor = self._connection.execute(sql)
        while batch := cursor.fetchmany(BATCH):
            yield batch

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        (count,) = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
        return int(count)

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows as they are."""
        insert_rows(self._connection, table.name, table.columns, rows)

    async def commit(self, sequence: int, head: str, at: float) -> None:
        """Make it durable. The end of the audit is its last record and needs no word."""
        self._connection.execute("COMMIT")


@asynccontextmanager
async def sqlite_end(path: Path, now: float, *, empty: bool) -> AsyncIterator[SqliteEnd]:
    """The store in the file ``path``, held alone; a new schema is made in it if it is to be ``empty``.

    Raises StoreError.
    """
    lock = _take(path, empty)
    try:
        connection = _sqlite_file.connect(str(path))
        try:
            _sqlite_file.migrate(connection, str(path), now, apply=empty)
            connection.execute("BEGIN IMMEDIATE")
            yield SqliteEnd(str(path), connection)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from None
        finally:
            # Closing gives up whatever was not committed.
            connection.close()
    finally:
        os.close(lock)


def _take(path: Path, make: bool) -> int:
    if not make and not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    return _sqlite_file.take(str(path))
