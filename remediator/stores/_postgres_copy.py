"""A schema of PostgreSQL as one end of a copy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from remediator.errors import StoreError
from remediator.stores import _postgres_migrate
from remediator.stores._postgres_connect import Address, failure
from remediator.stores._postgres_session import clean
from remediator.stores.copy import BATCH, Row, Table

_HOURS = 6 * 3600.0
"""How long one statement, or a silence between two, may last while a store is copied, in seconds."""
_ORDINALS = ("incident", "effect", "approval")
"""Tables whose rows have an order of their own here, because replicas make identifiers by several clocks."""
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name LIKE 'remediator%'"
)
_NUMBERS = "SELECT setval(pg_get_serial_sequence('effect_evidence', 'id'), max(id)) FROM effect_evidence"


def address(url: str, *, schema: str = "remediator", password_file: str = "") -> Address:
    """The address of a schema for work that may take long. Raises StoreError."""
    return Address(
        url=url, schema=schema, password_file=password_file, connect=10.0, statement=_HOURS, idle=_HOURS
    )


class PostgresEnd:
    """``copy.End`` on a connection that is inside a transaction."""

    def __init__(self, place: Address, connection: Any) -> None:
        self._connection = connection
        self.name = f"postgresql://{place}"

    async def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        """The rows of a table, a batch at a time."""
        order = "ordinal" if table.name in _ORDINALS else table.order
        sql = f"SELECT {table.columns} FROM {table.name} ORDER BY {order}"  # noqa: S608
        cursor = await self._connection.cursor(sql)
        while batch := await cursor.fetch(BATCH):
            yield [tuple(row) for row in batch]

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {table.name}"))  # noqa: S608

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows as they are, but for a character that PostgreSQL's text cannot hold."""
        columns = table.columns.split(",")
        if table.name == "approval_vote":  # A number in the other dialect.
            at = columns.index("yes")
            rows = [(*row[:at], bool(row[at]), *row[at + 1 :]) for row in rows]
        if table.name != "audit":  # A changed record would break the chain, so there it is an error.
            rows = [tuple(clean(value) for value in row) for row in rows]
        # COPY also fills columns that number themselves.
        await self._connection.copy_records_to_table(table.name, records=rows, columns=columns)

    async def commit(self, sequence: int, head: str, at: float) -> None:
        """Make it durable, with the head on which replicas append."""
        await self._connection.execute(
            "UPDATE audit_head SET sequence = $1, digest = $2, at = $3", sequence, head, at
        )
        await self._connection.execute(_NUMBERS)
        await self._connection.execute("COMMIT")


@asynccontextmanager
async def postgres_end(place: Address, *, empty: bool) -> AsyncIterator[PostgresEnd]:
    """The store in a schema, held alone; the schema is made or brought up to date if it is to be ``empty``.

    Raises StoreError, StoreUnavailable.
    """
    await _postgres_migrate.ensure(place, apply=empty)
    connection = await place.connection("remediator copy")
    try:
        if await connection.fetchval(_OTHERS):
            raise StoreError(f"a service is connected to {place}; stop every replica first")
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
        # Before the transaction sees anything: whoever would append to the audit waits, so nothing is committed beside.
        await connection.execute("LOCK TABLE audit_head IN EXCLUSIVE MODE")
        yield PostgresEnd(place, connection)
    except StoreError:
        raise
    except Exception as error:
        raise failure(error, place) from error
    finally:
        # Ending the session gives up whatever was not committed.
        connection.terminate()
