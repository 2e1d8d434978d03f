"""``postgres.activity``: who is connected, in which state, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from remediator.integrations.postgres._names import Application, like
from remediator.integrations.postgres._values import bounded
from remediator.integrations.postgres.target import PostgresTarget
from remediator.probe import Probe, ProbeContext

# What other roles do is shown only to members of pg_read_all_stats; to others even the type of a backend is null.
_SQL = """
SELECT application_name, coalesce(state, '') AS state, usename, query,
       query = '<insufficient privilege>' AS hidden,
       extract(epoch FROM clock_timestamp() - query_start)::float8 AS query_seconds,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds
FROM pg_stat_activity
WHERE coalesce(backend_type, 'client backend') = 'client backend' AND datname = current_database()
  AND pid <> pg_backend_pid()
  AND (application_name LIKE $1 OR query = '<insufficient privilege>')
ORDER BY query_start NULLS LAST
"""


class Activity(Probe[PostgresTarget]):
    """Counts the clients of the database by state and application, and finds the longest query and transaction.

    Replication, autovacuum and Remediator's own connection are not counted. Where the role may not see what others do
    there is no evidence at all, because what is hidden would look like nothing: grant it pg_read_all_stats.
    """

    literal: ClassVar[frozenset[str]] = frozenset({"texts"})

    application: Application = Field(
        default="*", description="Only clients with this application_name; `*` stands for any text."
    )
    longest: int = Field(default=10, ge=0, le=100, description="How many of the longest running queries are listed.")
    texts: bool = Field(default=False, description="True to show their first 300 characters, which may hold data.")

    def needs(self) -> Mapping[str, str]:
        """The application must be permitted."""
        return {"applications": self.application}

    async def read(self, target: PostgresTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The clients as evidence. Raises TemporaryError, PermanentError."""
        client = await target.client()
        rows = await client.look(target, lambda connection: connection.fetch(_SQL, like(self.application)))
        client.all_visible(target, rows)
        active = [row for row in rows if row["state"] == "active"]
        return {
            "total": len(rows),
            "by_state": _counted(rows, "state"),
            "by_application": _counted(rows, "application_name"),
            "active": len(active),
            "idle_in_transaction": sum(row["state"].startswith("idle in transaction") for row in rows),
            "longest_query_seconds": _longest(active, "query_seconds"),
            "longest_transaction_seconds": _longest(rows, "transaction_seconds"),
            "queries": [self._described(row) for row in active[: self.longest]],
        }

    def _described(self, row: Mapping[str, Any]) -> dict[str, Any]:
        told = {
            "application": row["application_name"],
            "user": row["usename"] or "",
            "seconds": round(row["query_seconds"] or 0.0, 3),
        }
        return {**told, "query": bounded(row["query"], 300)} if self.texts else told


def _counted(rows: list[Any], column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[column] or "unknown"] = counts.get(row[column] or "unknown", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:100])


def _longest(rows: list[Any], column: str) -> float:
    return round(max((row[column] or 0.0 for row in rows), default=0.0), 3)
