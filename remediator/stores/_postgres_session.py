"""What an operation on PostgreSQL works with: statements, the database's time, and the records it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from remediator.audit import Entry, around

TYPES = {
    "epoch": "bigint",
    "version": "bigint",
    "tries": "bigint",
    "sequence": "bigint",
    "body_bytes": "bytea",
    **dict.fromkeys(
        ("lease_until", "wake_at", "created_at", "updated_at", "due_at", "opened_at", "seen_at", "ended_at",
         "received_at", "at"),
        "double precision",
    ),
}  # fmt: skip
"""Types of the columns that are written in bulk and are not text."""


def lock_id(schema: str, *name: str) -> int:
    """The advisory lock for a name, as PostgreSQL wants it: 64 bits, signed. Schemas of one database do not meet."""
    digest = hashlib.sha256("\0".join(("remediator", schema, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def clean(value: Any) -> Any:
    """``value`` without the one character that PostgreSQL's text cannot hold."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if isinstance(value, list | tuple):
        with suppress(TypeError):  # Looking at a column of text as one is faster than at each of its values.
            if "\0" not in "".join(value):
                return value
        return [clean(each) for each in value]
    return value


class Rows(NamedTuple):
    """Rows for a table. Table and columns are our own constants, never input.

    ``same`` names columns in which all rows are alike: they travel once. ``once`` leaves out rows that are there.
    """

    table: str
    columns: str
    rows: Sequence[Sequence[Any]]
    same: Collection[str] = ()
    once: bool = False


class Session:
    """A connection for the time of one verb."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._now: float | None = None

    async def all(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        rows: list[Any] = await self._connection.fetch(sql, *map(clean, values))
        return rows

    async def one(self, sql: str, *values: Any) -> Any:
        """The first row of a query, or None."""
        return await self._connection.fetchrow(sql, *map(clean, values))

    async def run(self, sql: str, *values: Any) -> int:
        """Execute a statement; the number of rows it changed."""
        status: str = await self._connection.execute(sql, *map(clean, values))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def insert(self, *tables: Rows) -> None:
        """Insert rows with one statement, because each is a journey.

        What refers to a row of another of the tables is checked at the end of the statement.
        """
        parts, values = _inserts(tables)
        if parts:
            named = ", ".join(f"w{number} AS ({part})" for number, part in enumerate(parts))
            await self.run(f"WITH {named} SELECT", *values)

    async def now(self) -> float:
        """The database's time, the same for the whole verb once it has been asked for."""
        if self._now is None:
            self._now = float(await self._connection.fetchval("SELECT remediator_now()"))
        return self._now


def unnest(names: Sequence[str], first: int = 1) -> str:
    """The parameters ``first`` and following as a table with the columns ``names``: one array for each."""
    arrays = ", ".join(f"${number}::{TYPES.get(name, 'text')}[]" for number, name in enumerate(names, first))
    return f"unnest({arrays})"


_Column = tuple[str, tuple[Any, ...]]


def _inserts(tables: Sequence[Rows]) -> tuple[list[str], list[Any]]:
    """Statements for all rows, and their parameters."""
    parts: list[str] = []
    values: list[Any] = []
    for table, columns, rows, same, once in tables:
        if not rows:
            continue
        names, first = columns.split(","), len(values) + 1
        told, alike = list[_Column](), list[_Column]()
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            (alike if name in same else told).append((name, column))
        values += [column for _, column in told]
        source = f"{unnest([name for name, _ in told], first)} AS u ({','.join(name for name, _ in told)})"
        chosen = {name: f"u.{name}" for name, _ in told}
        for name, column in alike:
            if column.count(column[0]) < len(column):
                raise ValueError(f"rows of {table} differ in {name}")
            values.append(column[0])
            chosen[name] = f"${len(values)}::{TYPES.get(name, 'text')}"
        into = columns.replace("_bytes", "")
        what = ",".join(map(chosen.__getitem__, names))
        tail = " ON CONFLICT DO NOTHING" if once else ""
        parts.append(f"INSERT INTO {table} ({into}) SELECT {what} FROM {source}{tail}")  # noqa: S608
    return parts, values


def _append(first: int) -> str:
    """The statement that appends records and wakes; its parameters begin with number ``first``."""
    arrays = ", ".join(f"${number}::text[]" for number in range(first, first + 6))
    return f"SELECT audit_append({arrays}), CASE WHEN ${first + 7} THEN pg_notify(${first + 6}, '') END"


def appended(entries: Sequence[Entry]) -> list[list[str]]:
    """The parameters of ``audit_append``: a column for each."""
    rows = []
    for each in entries:
        entry = _kept(each)
        rows.append((*around(entry), entry.event, entry.actor, entry.run_id, entry.rule))
    return [list(column) for column in zip(*rows, strict=True)]


class Transaction(Session):
    """A session inside BEGIN and COMMIT, with the audit entries so far.

    ``wakes`` says that replicas should look for work once this is committed.
    """

    def __init__(self, connection: Any, channel: str) -> None:
        super().__init__(connection)
        self._channel = channel
        self._entries: list[Entry] = []
        self.wakes = False

    def record(self, *entries: Entry) -> None:
        """Add audit entries to this commit."""
        self._entries += entries

    async def finish(self, *tables: Rows) -> None:
        """Put the entries at the end of the chain: the last thing before COMMIT, because whoever appends waits here.

        ``tables`` are inserted before that by the same statement.
        """
        parts, values = _inserts(tables)
        if not self._entries:
            if parts:
                await self.insert(*tables)
            if self.wakes:
                await self.run("SELECT pg_notify($1, '')", self._channel)
            return
        sql = _append(len(values) + 1)
        if parts:
            named = ", ".join(f"w{number} AS ({part} RETURNING 1)" for number, part in enumerate(parts))
            # Counted first, so that the rows are written before the head is locked.
            counts = " + ".join(f"(SELECT count(*) FROM w{number})" for number in range(len(parts)))  # noqa: S608
            sql = f"WITH {named} {sql} WHERE {counts} >= 0"
        await self.one(sql, *values, *appended(self._entries), self._channel, self.wakes)
        self._entries, self.wakes = [], False


def _kept(entry: Entry) -> Entry:
    # The columns of a record must equal its body, so what a column cannot hold may not stand in the body either.
    if "\0" in f"{entry.event}{entry.actor}{entry.run_id}{entry.rule}":
        return replace(
            entry,
            event=clean(entry.event),
            actor=clean(entry.actor),
            run_id=clean(entry.run_id),
            rule=clean(entry.rule),
        )
    return entry
