"""What an operation on PostgreSQL works with: statements, the database's time, and the records it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from remediator.audit import Entry, seal

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
        return [clean(each) for each in value]
    return value


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

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Any]], *, once: bool = False) -> None:
        """Insert rows with one statement; ``once`` leaves out those that are there already.

        ``table`` and ``columns`` are our own constants, never input.
        """
        if rows:
            names = columns.split(",")
            tail = " ON CONFLICT DO NOTHING" if once else ""
            await self.run(
                f"INSERT INTO {table} ({columns.replace('_bytes', '')}) SELECT * FROM {unnest(names)}{tail}",  # noqa: S608
                *zip(*rows, strict=True),
            )

    async def now(self) -> float:
        """The database's time, the same for the whole verb once it has been asked for."""
        if self._now is None:
            self._now = float(await self._connection.fetchval("SELECT remediator_now()"))
        return self._now


def unnest(names: Sequence[str], first: int = 1) -> str:
    """The parameters ``first`` and following as a table with the columns ``names``: one array for each."""
    arrays = ", ".join(f"${number}::{TYPES.get(name, 'text')}[]" for number, name in enumerate(names, first))
    return f"unnest({arrays})"


_APPEND = (
    "WITH head AS (UPDATE audit_head SET sequence = $10, digest = $11, at = $12),"  # noqa: S608
    " record AS (INSERT INTO audit (sequence,at,event,actor,run_id,rule,body,previous,digest) SELECT * FROM "
    + unnest(("sequence", "at", "event", "actor", "run_id", "rule", "body", "previous", "digest"))
    + ") SELECT pg_notify($13, '') WHERE $14"
)


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

    async def finish(self) -> None:
        """Put the entries at the end of the chain: the last thing before COMMIT, because whoever appends waits here."""
        if not self._entries:
            if self.wakes:
                await self.run("SELECT pg_notify($1, '')", self._channel)
            return
        head = await self.one("SELECT sequence, digest, at, remediator_now() FROM audit_head FOR UPDATE")
        sequence, previous, at = head[0], bytes.fromhex(head[1]), max(head[2], head[3])
        records = []
        for entry in self._entries:
            sequence += 1
            record, previous = seal(_kept(entry), sequence, at, previous)
            records.append(record)
        columns = zip(*records, strict=True)
        await self.run(_APPEND, *columns, sequence, previous.hex(), at, self._channel, self.wakes)


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
