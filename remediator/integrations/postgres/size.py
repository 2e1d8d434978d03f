"""``postgres.size``: how large the database and its largest tables are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.postgres._values import row
from remediator.integrations.postgres.target import PostgresTarget
from remediator.probe import Probe, ProbeContext

_SQL = """
SELECT n.nspname AS schema, c.relname AS table, pg_total_relation_size(c.oid) AS bytes,
       greatest(c.reltuples, 0)::int8 AS rows_estimate, coalesce(s.n_dead_tup, 0) AS dead_rows_estimate
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
ORDER BY 3 DESC NULLS LAST LIMIT $1
"""


class Size(Probe[PostgresTarget]):
    """Reads the size of the database and of its largest tables, with their indexes."""

    tables: int = Field(default=20, ge=0, le=200, description="How many of the largest tables are listed.")

    def needs(self) -> Mapping[str, str]:
        """Nothing beyond the probe itself."""
        return {}

    async def read(self, target: PostgresTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The sizes as evidence, in bytes. Raises TemporaryError, PermanentError."""

        async def work(connection: Any) -> tuple[int, list[Any]]:
            total = await connection.fetchval("SELECT pg_database_size(current_database())")
            return total, await connection.fetch(_SQL, self.tables)

        client = await target.client()
        total, tables = await client.look(target, work)
        return {"bytes": total, "tables": [row(each) for each in tables]}
