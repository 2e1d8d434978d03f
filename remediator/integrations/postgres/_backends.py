"""Choosing client backends by state, age, application and user, and telling exactly those to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from remediator.action import Action, ActionContext, Change, Happened, Outcome
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres._names import Application, User, like
from remediator.integrations.postgres._values import as_json
from remediator.integrations.postgres.target import PostgresTarget

State = Literal["active", "idle", "idle in transaction", "idle in transaction (aborted)"]

# Replication, autovacuum and every other process of the server itself have another backend_type. Backups are clients
# like any other and are known by their name, and by the COPY they read tables with.
_PROTECTED = """
a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.datname = current_database()
AND a.application_name NOT IN ('pg_dump', 'pg_dumpall', 'pg_restore', 'pg_basebackup', 'pg_receivewal', 'remediator')
AND a.query !~* '^\\s*copy\\s.*\\sto\\s+stdout'
"""
# Since when it is in its state: a query has run since it was sent, everything else since the state changed.
_SINCE = "CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END"
_MATCHING = f"""
{_PROTECTED} AND a.state = $1 AND a.application_name LIKE $2 AND ($3::text IS NULL OR a.usename = $3)
AND {_SINCE} < clock_timestamp() - make_interval(secs => $4)
"""
_FIND = f"""
SELECT a.pid, a.backend_start, {_SINCE} AS since, a.application_name, a.usename, count(*) OVER () AS matching,
       coalesce((SELECT m.rolsuper FROM pg_roles m WHERE m.rolname = current_user), false)
       OR (NOT r.rolsuper AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) AS may
FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE {_MATCHING} ORDER BY since, a.pid LIMIT $5
"""  # noqa: S608 - put together from constants only
_HIDDEN = """
SELECT a.query = '<insufficient privilege>' AS hidden FROM pg_stat_activity a
WHERE coalesce(a.backend_type, 'client backend') = 'client backend' AND a.datname = current_database()
"""
_LISTED = f"""
pg_stat_activity a JOIN unnest($5::int[], $6::timestamptz[], $7::timestamptz[]) AS w(pid, backend_start, since)
ON a.pid = w.pid AND a.backend_start = w.backend_start AND {_SINCE} = w.since
WHERE {_MATCHING}
"""


class Backends(Action[PostgresTarget]):
    """Tells up to ``max`` client backends to stop; subclasses say how."""

    literal: ClassVar[frozenset[str]] = frozenset({"older_than", "max"})
    function: ClassVar[str]
    verb: ClassVar[str]

    application: Application = Field(
        description="Only backends with this application_name; `*` stands for any text. Permitted as it stands."
    )
    older_than: Duration = Field(gt=0, description="Only what has been in its state for longer than this.")
    max: int = Field(ge=1, le=1000, description="At most this many, those that have been so longest.")
    user: User | None = Field(default=None, description="Only backends of this role.")

    @property
    def wanted_state(self) -> str:
        """The state that a backend must be in."""
        raise NotImplementedError

    def needs(self) -> Mapping[str, str]:
        """The application must be permitted."""
        return {"applications": self.application}

    def subject(self) -> str:
        """All backends: two runs at once would each take their number."""
        return "backends"

    def _filter(self) -> tuple[Any, ...]:
        return (self.wanted_state, like(self.application), self.user, self.older_than)

    async def diff(self, target: PostgresTarget, context: ActionContext) -> Change:
        """Who would be told to stop, each by process id, start and since when it is so.

        Raises PermanentError if the role sees too little, or may not stop one of them.
        """

        async def work(connection: Any) -> tuple[list[Any], list[Any]]:
            hidden = await connection.fetch(_HIDDEN)
            return hidden, await connection.fetch(_FIND, *self._filter(), self.max)

        client = await target.client()
        hidden, found = await client.look(target, work)
        client.all_visible(target, hidden)
        if not all(row["may"] for row in found):
            raise PermanentError(
                f"{target.user} may not stop all of these backends; grant pg_signal_backend to it, and leave "
                "superusers alone",
                reason="permission",
            )
        matching = found[0]["matching"] if found else 0
        listed = [_described(row) for row in found]
        return Change(
            summary=f"{self.verb} {len(listed)} backends of {self.application} that are {self.wanted_state} "
            f"for more than {format_duration(self.older_than)}",
            before={"backends": listed},
            after={"backends": []},
            volatile={"matching": matching},
        )

    def _listed(self, change: Change) -> tuple[Any, ...]:
        backends: Sequence[Mapping[str, Any]] = change.before["backends"]
        return (
            [backend["pid"] for backend in backends],
            [_instant(backend["started"]) for backend in backends],
            [_instant(backend["since"]) for backend in backends],
        )

    async def apply(self, target: PostgresTarget, change: Change, context: ActionContext) -> Outcome:
        """Tell those of the change that still are as shown, in one statement. Raises Unanswered (unknown)."""
        client = await target.client()
        rows = await client.send(
            target,
            context.check_deadline,
            f"SELECT a.pid, {self.function}(a.pid) AS told FROM {_LISTED}",  # noqa: S608 - constants only
            *self._filter(),
            *self._listed(change),
        )
        told = sorted(row["pid"] for row in rows if row["told"])
        return Outcome(
            summary=f"{len(told)} of {len(change.before['backends'])} backends were told to stop",
            data={"told": told, "listed": len(change.before["backends"])},
        )

    async def _left(self, target: PostgresTarget, change: Change) -> int:
        """How many of the change still are as shown."""

        async def work(connection: Any) -> int:
            query = f"SELECT count(*) FROM {_LISTED}"  # noqa: S608 - constants only
            return int(await connection.fetchval(query, *self._filter(), *self._listed(change)))

        client = await target.client()
        return int(await client.look(target, work))

    async def verify(self, target: PostgresTarget, change: Change, context: ActionContext) -> None:
        """Returns when none of them is as it was. Raises TemporaryError while one still is."""
        if left := await self._left(target, change):
            raise TemporaryError(f"{left} of the backends have not stopped yet", reason="not_yet")

    async def reconcile(self, target: PostgresTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if none of them is as it was, no if all are, else unknown."""
        left = await self._left(target, change)
        if left == 0:
            return Happened.YES
        return Happened.NO if left == len(change.before["backends"]) else Happened.UNKNOWN


def _described(row: Any) -> dict[str, Any]:
    return {
        "pid": row["pid"],
        "started": row["backend_start"].isoformat(),
        "since": row["since"].isoformat(),
        "application": as_json(row["application_name"]),
        "user": as_json(row["usename"]),
    }


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
