"""``postgres.query``: the rows of a statement that the operator has named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.errors import PermanentError
from remediator.integrations.postgres._names import Name
from remediator.integrations.postgres._statement import Given
from remediator.integrations.postgres._values import row
from remediator.integrations.postgres.target import PostgresTarget
from remediator.probe import Probe, ProbeContext


class Query(Probe[PostgresTarget]):
    """Runs a named statement of the target in a read-only transaction, with values as bound parameters."""

    literal: ClassVar[frozenset[str]] = frozenset({"statement"})

    statement: Name = Field(description="The statement's name in the settings of the target.")
    parameters: dict[str, Given] = Field(
        default_factory=dict, max_length=50, description="Values for the statement's parameters."
    )

    def needs(self) -> Mapping[str, str]:
        """The statement must be permitted."""
        return {"statements": self.statement}

    async def read(self, target: PostgresTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The rows as evidence. Raises TemporaryError, PermanentError."""
        statement = target.statements.get(self.statement)
        if statement is None or statement.changes:
            known = ", ".join(sorted(name for name, each in target.statements.items() if not each.changes)) or "none"
            raise PermanentError(f'the target has no query "{self.statement}"; it has {known}', reason="statement")
        try:
            values = statement.bind(self.parameters)
        except ValueError as error:
            raise PermanentError(f"{self.statement}: {error}", reason="parameter") from None
        began = context.clock.monotonic()

        async def work(connection: Any) -> list[Any]:
            cursor = await connection.cursor(statement.sql, *values)
            rows: list[Any] = await cursor.fetch(statement.max_rows + 1)
            return rows

        client = await target.client()
        found = await client.look(target, work, seconds=statement.timeout)
        rows = [row(record, statement.hide) for record in found[: statement.max_rows]]
        first = {"first": rows[0]} if rows else {}
        return {
            "rows": rows,
            "count": len(rows),
            "truncated": len(found) > statement.max_rows,
            "seconds": round(context.clock.monotonic() - began, 6),
            **first,
        }
