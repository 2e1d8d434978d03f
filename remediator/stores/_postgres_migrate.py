"""The schema of the PostgreSQL store: brings it up to date as its owner, and says who else may use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from remediator.errors import StoreError, StoreUnavailable
from remediator.stores._postgres_connect import Address, failure
from remediator.stores._postgres_session import lock_id
from remediator.stores.migrations import Migration, Step, migrations, pending, steps

_LEDGER = (
    "CREATE TABLE IF NOT EXISTS migration (version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
    " applied_at double precision NOT NULL)"
)
_GRANTS = (
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT INSERT ON delivery, incident, rule_version, run, effect, effect_evidence TO {role}",
    "GRANT INSERT ON approval, approval_vote, pause, audit, transfer TO {role}",
    "GRANT UPDATE ON incident, run, effect, approval, pause, audit_head, pulse, transfer TO {role}",
    "GRANT DELETE ON pause, delivery, incident, run, effect, effect_evidence, approval, approval_vote TO {role}",
    "GRANT INSERT, UPDATE, DELETE ON guard_state, announcement TO {role}",
    "GRANT EXECUTE ON FUNCTION audit_remove(bigint, text) TO {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
)
"""What a service needs that does not own the schema. It can add to the audit, change no record of it, and remove only
what retention may: the oldest ones through one function, after a day at least."""


async def state(address: Address) -> tuple[Sequence[tuple[int, str]], Sequence[Migration]]:
    """The migrations (version, name) that were applied, and those that are still to be. Writes nothing.

    Raises StoreError when the schema is newer than this program or was edited, StoreUnavailable.
    """
    connection = await address.connection("remediator migrate")
    try:
        rows = await _applied(connection)
        return [(row[0], row[1]) for row in rows], _pending(rows)
    except Exception as error:
        raise failure(error, address) from error
    finally:
        await _close(connection)


async def schema(address: Address) -> list[Step]:
    """Every migration with when it was applied, if it was. Raises like ``state``."""
    connection = await address.connection("remediator migrate")
    try:
        return steps(migrations("postgres"), [tuple(row) for row in await _applied(connection)])
    except Exception as error:
        raise failure(error, address) from error
    finally:
        await _close(connection)


async def ensure(address: Address, *, apply: bool = True) -> None:
    """Let the schema be the one that this program knows, applying what is missing if this role may.

    Raises StoreError that says who must do what; without ``apply`` for anything that is missing.
    """
    _, missing = await state(address)
    if not missing:
        return
    if not apply:
        raise StoreError(
            f"the schema {address.schema} at {address} lacks migration {missing[0].version} ({missing[0].name});"
            " run `remediator migrate`, or set storage.migrate to true"
        )
    try:
        await migrate(address)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise StoreError(
                f"the schema {address.schema} at {address} lacks migration {missing[0].version} ({missing[0].name}),"
                f" and this role may not apply it ({error.__cause__}); run `remediator migrate` as the schema's owner"
            ) from None
        raise


async def migrate(address: Address, *, grant_to: str = "") -> Sequence[Migration]:
    """Apply what is missing, all in one transaction, and let the role ``grant_to`` use the schema; what was applied.

    Replicas that start at the same time wait for each other. Raises StoreError, StoreUnavailable.
    """
    connection = await address.connection("remediator migrate")
    try:
        await _check(connection, address)
        async with connection.transaction():
            # A migration may take longer than any statement of the service is allowed to.
            await connection.execute("SET LOCAL statement_timeout = 0", timeout=address.statement)
            await connection.execute(f"SELECT pg_advisory_xact_lock({lock_id(address.schema, 'migrate')})", timeout=600)
            return await _apply(connection, address, grant_to)
    except Exception as error:
        raise failure(error, address) from error
    finally:
        await _close(connection)


async def _check(connection: Any, address: Address) -> None:
    if await connection.fetchval("SHOW server_encoding") != "UTF8":
        raise StoreError(f"the database at {address} cannot hold every text; create one with ENCODING 'UTF8'")


async def _apply(connection: Any, address: Address, grant_to: str) -> Sequence[Migration]:
    schema = _quoted(address.schema)
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema):
        await connection.execute(f"CREATE SCHEMA {schema}")
    if not await _is_there(connection):
        await connection.execute(_LEDGER)
    missing = _pending(await _applied(connection))
    for migration in missing:
        await connection.execute(migration.sql, timeout=3600)
        await connection.execute(
            "INSERT INTO migration (version, name, sha256, applied_at) VALUES ($1,$2,$3,remediator_now())",
            migration.version,
            migration.name,
            migration.sha256,
        )
    if grant_to:
        for grant in _GRANTS:
            await connection.execute(grant.format(schema=schema, role=_quoted(grant_to)))
    return missing


async def _is_there(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass('migration') IS NOT NULL"))


async def _applied(connection: Any) -> list[Any]:
    if not await _is_there(connection):
        return []
    rows: list[Any] = await connection.fetch("SELECT version, name, sha256, applied_at FROM migration ORDER BY version")
    return rows


def _pending(rows: Sequence[Any]) -> Sequence[Migration]:
    return pending(migrations("postgres"), [(row[0], row[2]) for row in rows])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=2)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
