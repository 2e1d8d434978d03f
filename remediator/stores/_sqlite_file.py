"""The file of a SQLite store: who may have it, how every connection to it is set, and which schema it holds."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from remediator.errors import StoreError
from remediator.stores.migrations import Migration, Step, migrations, pending, steps

MEMORY = ":memory:"
_APPLIED = "SELECT version, name, sha256, applied_at FROM migration ORDER BY version"


def take(path: str) -> int:
    """Be the only process that has this file, which is made if it is not there; closing the descriptor gives it free.

    Raises StoreError.
    """
    file, lock = Path(path), None
    if not file.parent.is_dir():
        raise StoreError(f"{file.parent}: no such directory; create it, or set storage.url to another place")
    try:
        lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # SQLite would let everybody read the alerts and the audit; its other files take the mode of this one.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return lock
    except OSError as error:
        if lock is not None:
            os.close(lock)
        if isinstance(error, BlockingIOError):
            raise StoreError(f"{file}: another process has this store open; SQLite serves one replica") from None
        raise StoreError(f"{file}: cannot be opened: {error.strerror}") from None


def connect(path: str, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection that loses nothing it has acknowledged. Raises StoreError."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode not in ("wal", "memory"):
            raise StoreError(f"{path}: this file system cannot do WAL (a network one?); use a local one")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        if readonly:
            connection.execute("PRAGMA query_only=ON")
    except StoreError:
        connection.close()
        raise
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path}: cannot be opened as a SQLite file: {error}") from None
    return connection


def migrate(connection: sqlite3.Connection, path: str, now: float, *, apply: bool = True) -> Sequence[Migration]:
    """Bring the schema up to date; what was applied. Raises StoreError, also for anything missing unless ``apply``."""
    try:
        missing = pending(migrations("sqlite"), [(row[0], row[2]) for row in _applied(connection)])
        if missing and not apply:
            first = missing[0]
            raise StoreError(
                f"{path}: the schema lacks migration {first.version} ({first.name}); run `remediator migrate`,"
                " or set storage.migrate to true"
            )
        if missing:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
                " sha256 TEXT NOT NULL, applied_at REAL NOT NULL)"
            )
        for migration in missing:
            connection.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}")
            values = (migration.version, migration.name, migration.sha256, now)
            connection.execute("INSERT INTO migration VALUES (?,?,?,?)", values)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(f"{path}: not usable as a store: {error}") from None
    return missing


def schema(path: str) -> list[Step]:
    """Every migration with when it was applied, if it was; reads only, also beside a service. Raises StoreError."""
    if not Path(path).is_file():
        return steps(migrations("sqlite"), [])
    try:
        connection = sqlite3.connect(f"file:{quote(str(Path(path).resolve()))}?mode=ro", uri=True)
        try:
            rows = _applied(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: not readable as a store of Remediator: {error}") from None
    return steps(migrations("sqlite"), rows)


def _applied(connection: sqlite3.Connection) -> list[tuple[int, str, str, float]]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone() is None:
        return []
    return connection.execute(_APPLIED).fetchall()
