"""``postgres.pool``: how many connections are left, on the server and in the PgBouncer before it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted, execute
from remediator.integrations._secret import read_secret
from remediator.integrations.postgres.target import Pgbouncer, PostgresTarget
from remediator.probe import Probe, ProbeContext

_SQL = """
SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS used,
       count(*) FILTER (WHERE backend_type = 'client backend' AND state = 'active') AS active,
       bool_or(backend_type IS NULL) AS hidden,
       current_setting('max_connections')::int AS maximum,
       current_setting('superuser_reserved_connections')::int AS reserved
FROM pg_stat_activity
"""
_NUMBERS = ("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait")


class Pool(Probe[PostgresTarget]):
    """Counts the server's connections, and reads SHOW POOLS of the PgBouncer that the settings name.

    The admin console is only ever asked SHOW. Restarting PgBouncer is an action of its own, of the system it runs on.
    """

    def needs(self) -> Mapping[str, str]:
        """Nothing beyond the probe itself."""
        return {}

    async def read(self, target: PostgresTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The pools as evidence. Raises TemporaryError, PermanentError."""
        evidence: dict[str, Any] = {}
        if target.pgbouncer is not None:
            # First: when the server has no connection left, this is what still answers.
            evidence["pgbouncer"] = _summed(await _show(target, target.pgbouncer))
        client = await target.client()
        row = await client.look(target, lambda connection: connection.fetchrow(_SQL))
        client.all_visible(target, [row])
        usable = row["maximum"] - row["reserved"]
        server = {"used": row["used"], "active": row["active"], "maximum": row["maximum"], "usable": usable}
        return {"server": {**server, "share": round(row["used"] / usable, 4)}, **evidence}


async def _show(target: PostgresTarget, pgbouncer: Pgbouncer) -> list[dict[str, str]]:
    """SHOW POOLS. Its console speaks only the simple protocol, which psql does."""
    password = "" if pgbouncer.password_file is None else read_secret(pgbouncer.password_file, "password_file")
    argv = ["psql", "--no-psqlrc", "--no-password", "--csv", "--host", pgbouncer.host, "--port", str(pgbouncer.port)]
    argv += ["--username", pgbouncer.user, "--dbname", "pgbouncer", "--command", "SHOW POOLS"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGAPPNAME": "remediator"}
    environment |= {"PGCONNECT_TIMEOUT": str(max(2, round(target.timeout)))}
    environment |= {"PGPASSWORD": password} if password else {}
    secrets = [password] if password else []
    try:
        ended = await execute(
            argv,
            directory="/",
            environment=environment,
            seconds=target.timeout,
            limit=1024 * 1024,
            secrets=secrets,
            grace=0.5,
        )
    except Interrupted as error:
        raise TemporaryError(f"pgbouncer at {pgbouncer.host}:{pgbouncer.port}: {error}", reason="unanswered") from None
    if ended.code != 0:
        raise _failure(ended.stderr.strip()[-500:], f"pgbouncer at {pgbouncer.host}:{pgbouncer.port}")
    return list(csv.DictReader(io.StringIO(ended.stdout)))


def _failure(said: str, where: str) -> Exception:
    if any(part in said for part in ("not allowed", "authentication failed", "no such user", "no password")):
        return PermanentError(f"{where}: {said}", reason="credentials")
    return TemporaryError(f"{where}: {said}", reason="connect")


def _summed(pools: list[dict[str, str]]) -> dict[str, Any]:
    """The pools, without the console's own, and what they are in sum."""
    described: list[dict[str, Any]] = [
        {
            "database": pool["database"],
            "user": pool["user"],
            "mode": pool.get("pool_mode", ""),
            **{name: int(pool[name]) for name in _NUMBERS if name in pool},
        }
        for pool in pools
        if pool["database"] != "pgbouncer"
    ]
    return {
        "waiting": sum(pool["cl_waiting"] for pool in described),
        "longest_wait_seconds": max((pool["maxwait"] for pool in described), default=0),
        "pools": described[:200],
    }
