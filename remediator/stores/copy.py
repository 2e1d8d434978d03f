"""Moves everything from one store to another, empty one: all of it, verified, in one transaction, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from remediator.anchor import Walk
from remediator.audit import GENESIS, Entry, Verification, seal
from remediator.errors import StoreError
from remediator.stores._money import TRANSFER
from remediator.stores._rows import APPROVAL, AUDIT, EFFECT, GUARD_STATE, INCIDENT, RUN, read_audit

BATCH = 500


class Table(NamedTuple):
    """A table as every dialect has it; ``order`` is the order in which rows were made, which the copy keeps."""

    name: str
    columns: str
    order: str


TABLES = (
    Table("delivery", "id,source,received_at,body_sha256,body", "id"),
    Table("incident", INCIDENT, "id"),
    Table("rule_version", "digest,body,seen_at", "digest"),
    Table("run", RUN, "id"),
    Table("effect", f"{EFFECT},rule,incident_key,over_at,closing", "id"),
    Table("announcement", "effect_id,alert,run_id,rule,lasts,depth", "effect_id,alert"),
    Table("effect_evidence", "id,effect_id,state,outcome,at", "id"),
    Table("approval", APPROVAL, "id"),
    Table("approval_vote", "approval_id,actor,yes,comment,at", "approval_id,at"),
    Table("transfer", TRANSFER, "id"),
    Table("pause", "scope,reason,actor,since,until", "scope"),
    Table("guard_state", GUARD_STATE, "guard,scope"),
    Table("audit_segment", "last,first,head,sealed_at,removed_at", "last"),
    Table("audit", AUDIT, "sequence"),
)
"""Everything a store keeps, what is referred to before what refers to it."""

Row = Sequence[Any]


class End(Protocol):
    """One store of a copy, held alone and inside one transaction."""

    @property
    def name(self) -> str:
        """What the store is, for people and for the audit; no secret."""
        ...

    def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        """The rows of ``table`` in their order, a batch at a time."""
        ...

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        ...

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Write these rows as they are."""
        ...

    async def commit(self, sequence: int, head: str, at: float) -> None:
        """Make it durable; the audit ends with record ``sequence``, of digest ``head``, written ``at``."""
        ...


class Copied(NamedTuple):
    """What was moved: rows by table, and the chain as it was verified in the destination."""

    rows: Mapping[str, int]
    audit: Verification


OpenEnd = AbstractAsyncContextManager[End]
"""Opening takes the store alone and begins its transaction; leaving without a commit changes nothing."""


async def copy(
    source: OpenEnd, destination: OpenEnd, now: Callable[[], float], told: Callable[[str, int], None]
) -> Copied:
    """Copy ``source`` to ``destination``, compare, and commit; ``told`` hears of every table that is done.

    Raises StoreError, and then the destination is as it was.
    """
    async with source as from_, destination as to:
        await _empty(to)
        rows: dict[str, int] = {}
        for table in TABLES:
            rows[table.name] = await _table(from_, to, table)
            told(table.name, rows[table.name])
        found, at = await _verified(to)
        entry = Entry(
            event="storage.copied", actor="remediator", detail={"from": from_.name, "to": to.name, "rows": rows}
        )
        # After the records that were moved, which are as they were: the chain tells that it has moved.
        record, _ = seal(entry, found.records + 1, max(at, now()), bytes.fromhex(found.head))
        await to.add(TABLES[-1], [record])
        await to.commit(record.sequence, record.digest, record.at)
    return Copied(rows, found)


async def _empty(to: End) -> None:
    for table in TABLES:
        if await to.count(table):
            raise StoreError(
                f"{to.name} is not empty (it has rows in {table.name}); copy to a new file or an empty schema"
            )


async def _table(from_: End, to: End, table: Table) -> int:
    expected, done = await from_.count(table), 0
    async for batch in from_.rows(table):
        await to.add(table, batch)
        done += len(batch)
    arrived = await to.count(table)
    if not expected == done == arrived:
        raise StoreError(f"{table.name}: {expected} rows in {from_.name}, {arrived} in {to.name}; nothing was copied")
    return done


async def _verified(to: End) -> tuple[Verification, float]:
    """The chain as it can be read back from the destination, and when its last record was written."""
    walk, at = Walk(), 0.0
    async for batch in to.rows(TABLES[-1]):
        records = [read_audit(row) for row in batch]
        at = records[-1].at
        if not walk.add(records):
            break
    found = walk.result()
    if not found.ok:
        raise StoreError(f"nothing was copied: the audit is not whole: {found.message}")
    return found._replace(head=found.head or GENESIS.hex()), at
