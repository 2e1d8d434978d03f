"""Reads the audit chain of a SQLite store without opening the store: beside a running service, or from a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from remediator.audit import AuditRecord
from remediator.errors import StoreError
from remediator.stores._rows import AUDIT, read_audit

_BATCH = 1000


def read_audit_file(path: Path) -> Iterator[list[AuditRecord]]:
    """The records of the database at ``path`` in rising order, as they were when reading began. Changes nothing.

    Raises StoreError when the file is not there or is no store.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be opened: {error}") from None
    try:
        connection.execute("BEGIN")
        found = connection.execute(f"SELECT {AUDIT} FROM audit ORDER BY sequence")  # noqa: S608
        while rows := found.fetchmany(_BATCH):
            yield [read_audit(row) for row in rows]
    except sqlite3.Error as error:
        raise StoreError(f"{path}: not readable as a store of Remediator: {error}") from None
    finally:
        connection.close()
