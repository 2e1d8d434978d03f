"""Proves that a store moves whole or not at all, between files and servers, and that its audit arrives as it was."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from remediator.anchor import Walk
from remediator.audit import Entry
from remediator.errors import StoreError
from remediator.facts import GuardState
from remediator.run import State
from remediator.store import Pause
from remediator.stores import _postgres_migrate
from remediator.stores._postgres_copy import address, postgres_end
from remediator.stores._sqlite_copy import sqlite_end
from remediator.stores.copy import TABLES, Copied, OpenEnd, Row, Table, copy
from remediator.stores.postgres import PostgresStore
from remediator.stores.sqlite import SqliteStore
from tests.postgres import Postgres, postgres
from tests.stores.conformance.kit import T0, Bench, CountingIds, StoreClock, ref
from tests.stores.conformance.money import paid
from tests.stores.conformance.retention import DAY, KEEP, everything_old, fill

__all__ = ["postgres"]


@asynccontextmanager
async def sqlite(path: Path, clock: StoreClock, made: int = 0) -> AsyncIterator[Bench]:
    """The store in a file, open; ``made`` identifiers were made before."""
    ids = CountingIds()
    ids.made = made
    store = SqliteStore(str(path), clock=clock, ids=ids)
    await store.open()
    try:
        yield Bench(store, clock, ids)
    finally:
        await store.close()


async def filled(path: Path) -> StoreClock:
    """A file with something in every table; some history was removed by retention."""
    clock = StoreClock()
    async with sqlite(path, clock) as bench:
        await fill(bench, 1100)
        clock.pass_(KEEP + DAY)
        await everything_old(bench)
        await bench.store.remember({"digest of rule-a": '{"name": "rule-a"}'})
        await bench.acted("a", ref("rule-a"))
        claim = await bench.running("b", ref("rule-b"))
        await bench.asked(claim, needed=2)
        await bench.store.vote(claim.run.id, "what was shown", "user:ann", True, "fine 🙂")
        licence = await bench.licensed(await bench.running("c", ref("rule-c")), announces=["Lag"], lasts=60.0)
        await bench.store.late(licence.effect_id, "unknown", {}, Entry(event="effect.late", actor="remediator"))
        await bench.concluded(licence, State.NEEDS_HUMAN, "unknown")
        await bench.ends("c", ref("rule-c"))
        await paid(bench)
        await bench.fires("d", ref("rule-d", wait=3600.0))
        await bench.store.open_guard(GuardState("breaker", "rule:rule-c", True, T0, None, "3 failed", "remediator"))
        await bench.store.pause(Pause("rule:rule-d", "stop", "user:ann", T0, clock.at + 50))
    return clock


def content(path: Path) -> dict[str, list[Row]]:
    """Every row of every table of a file."""
    connection = sqlite3.connect(path)
    try:
        return {
            table.name: connection.execute(
                f"SELECT {table.columns} FROM {table.name} ORDER BY {table.order}"
            ).fetchall()
            for table in TABLES
        }
    finally:
        connection.close()


def silent(_table: str, _rows: int) -> None:
    """Nobody watches."""


async def moved(source: OpenEnd, destination: OpenEnd, at: float) -> Copied:
    """Copy and hear of every table."""
    told: list[str] = []
    copied = await copy(source, destination, lambda: at, lambda table, _: told.append(table))
    assert told == [table.name for table in TABLES]
    return copied


def same(before: dict[str, list[Row]], after: dict[str, list[Row]]) -> None:
    """Everything is as it was, and the audit has one record more, which tells of the move."""
    assert all(before.values()), "a table is not tried"
    last = after["audit"].pop()
    assert last[2] == "storage.copied"
    assert after == before


async def test_a_file_moves_to_a_file(tmp_path: Path) -> None:
    """Every row of every table arrives as it is, and the chain with it, its removed beginning included."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    before = content(one)
    copied = await moved(sqlite_end(one, clock.at, empty=False), sqlite_end(two, clock.at, empty=True), clock.at)
    assert content(one) == before
    same(before, content(two))
    assert copied.rows == {name: len(rows) for name, rows in before.items()}
    assert "records 1 to 1000 were removed" in copied.audit.message
    async with sqlite(two, clock, made=1000) as bench:
        walk = Walk()
        walk.add(await bench.records())
        assert walk.result().ok
        await bench.fires("e", ref("rule-e"))


async def test_every_table_and_column_is_moved(tmp_path: Path, postgres: Postgres) -> None:
    """A table or a column that a migration adds and that the copy does not know fails here, in either dialect."""
    async with sqlite(tmp_path / "store.db", StoreClock()):
        pass
    connection = sqlite3.connect(tmp_path / "store.db")
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    here = {
        name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in tables - {"migration"}
    }
    connection.close()
    known = {table.name: set(table.columns.split(",")) for table in TABLES}
    assert {name: columns for name, columns in here.items() if not name.startswith("sqlite_")} == known
    await _postgres_migrate.ensure(address(postgres.url(), schema="columns"))
    rows = await postgres.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'columns'"
        " AND column_name <> 'ordinal'"
    )
    await postgres.execute("DROP SCHEMA columns CASCADE")
    there: dict[str, set[str]] = {}
    for table, column in rows:
        there.setdefault(table, set()).add(column)
    # What this dialect has besides is made anew by the copy or by the next replica.
    assert {name: there[name] for name in there.keys() - {"migration", "audit_head", "pulse"}} == known


async def test_a_file_moves_to_a_server_and_back(tmp_path: Path, postgres: Postgres) -> None:
    """What ran on SQLite goes on on PostgreSQL, with its runs, limits, pauses and chain; and the way back is open."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    before = content(one)
    place = address(postgres.url(), schema="moved")
    await moved(sqlite_end(one, clock.at, empty=False), postgres_end(place, empty=True), clock.at)
    store = PostgresStore(postgres.url(), clock=clock, ids=CountingIds(), schema="moved")
    await store.open()
    try:
        bench = Bench(store, clock, CountingIds())
        bench.ids.made = 10_000
        walk = Walk()
        walk.add(await bench.records())
        assert walk.result().ok
        runs = await store.runs()
        assert sorted(run.id for run in runs) == sorted(row[0] for row in before["run"])
        (asked,) = [run for run in runs if run.state is State.HELD]
        question = await store.approval(asked.id)
        assert question is not None and [vote["yes"] for vote in question.votes] == [True]
        (acting,) = [run for run in runs if run.state is State.NEEDS_HUMAN]
        (effect,) = await store.effects(acting.id)
        await store.late(effect.id, "done", {}, Entry(event="effect.late", actor="remediator"))
        await store.append(Entry(event="x", actor="y"))
    finally:
        await store.close()
    await _quiet(postgres)
    await moved(postgres_end(place, empty=False), sqlite_end(two, clock.at, empty=True), clock.at)
    await postgres.execute("DROP SCHEMA moved CASCADE")
    after = content(two)
    assert [row[2] for row in after["audit"][-4:]] == ["storage.copied", "effect.late", "x", "storage.copied"]
    assert len(after["effect_evidence"]) == 2
    for name in set(before) - {"audit", "effect_evidence"}:
        assert after[name] == before[name], name
    assert after["audit"][:-4] == before["audit"]


async def _quiet(postgres: Postgres) -> None:
    """Wait until the server has noticed that the store's sessions are gone."""
    for _ in range(100):
        rows = await postgres.fetch("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'remediator%'")
        if not rows:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("sessions are left")


class Breaking:
    """An end that fails or loses something after so many rows, as a process that dies or a disk that lies."""

    def __init__(self, inner: Any, how: str) -> None:
        self._inner = inner
        self._how = how
        self.name = inner.name

    def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        return self._inner.rows(table)  # type: ignore[no-any-return]  # whichever end it is

    async def count(self, table: Table) -> int:
        return int(await self._inner.count(table))

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        if table.name == "audit" and self._how == "dies":
            raise KeyboardInterrupt("killed")
        if table.name == "effect" and self._how == "loses":
            rows = rows[1:]
        if table.name == "audit" and self._how == "changes":
            rows = [(*rows[0][:3], "nobody", *rows[0][4:]), *rows[1:]]
        await self._inner.add(table, rows)

    async def commit(self, sequence: int, head: str, at: float) -> None:
        await self._inner.commit(sequence, head, at)


@asynccontextmanager
async def breaking(end: OpenEnd, how: str) -> AsyncIterator[Breaking]:
    """The end, breaking."""
    async with end as inner:
        yield Breaking(inner, how)


@pytest.mark.parametrize("kind", ["file", "server"])
@pytest.mark.parametrize(
    ("how", "why"),
    [("dies", "killed"), ("loses", "effect: 3 rows in"), ("changes", "the audit is not whole: record 1001")],
)
async def test_a_copy_that_fails_leaves_nothing(
    tmp_path: Path, postgres: Postgres, kind: str, how: str, why: str
) -> None:
    """Whatever happens before the commit, the destination is empty and can be copied to again; the source is whole."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    before = content(one)
    place = address(postgres.url(), schema="failed")

    def source() -> OpenEnd:
        return sqlite_end(one, clock.at, empty=False)

    def destination() -> OpenEnd:
        return sqlite_end(two, clock.at, empty=True) if kind == "file" else postgres_end(place, empty=True)

    with pytest.raises(KeyboardInterrupt if how == "dies" else StoreError, match=why):
        await copy(source(), breaking(destination(), how), lambda: clock.at, silent)
    assert content(one) == before
    await _quiet(postgres)
    await moved(source(), destination(), clock.at)
    if kind == "server":
        await postgres.execute("DROP SCHEMA failed CASCADE")


async def test_a_store_that_is_not_empty_is_no_destination(tmp_path: Path, postgres: Postgres) -> None:
    """Two histories are never mixed: a destination with a single row is refused with what to do, and keeps it."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    async with sqlite(two, clock) as bench:
        await bench.store.append(Entry(event="x", actor="y"))
    before = content(two)
    with pytest.raises(StoreError, match=r"not empty .it has rows in audit.; copy to a new file or an empty schema"):
        await copy(sqlite_end(one, clock.at, empty=False), sqlite_end(two, clock.at, empty=True), lambda: 0, silent)
    assert content(two) == before


async def test_a_store_in_use_is_neither_source_nor_destination(tmp_path: Path, postgres: Postgres) -> None:
    """While a service has a store it is not copied: what it commits meanwhile would be lost."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    async with sqlite(one, clock):
        with pytest.raises(StoreError, match="another process has this store open"):
            await copy(sqlite_end(one, 0, empty=False), sqlite_end(two, 0, empty=True), lambda: 0, silent)
    store = PostgresStore(postgres.url(), clock=clock, ids=CountingIds(), schema="used")
    await store.open()
    try:
        await store.ping()
        place = address(postgres.url(), schema="used")
        with pytest.raises(StoreError, match="stop every replica first"):
            await copy(sqlite_end(one, 0, empty=False), postgres_end(place, empty=True), lambda: 0, silent)
    finally:
        await store.close()
        await postgres.execute("DROP SCHEMA used CASCADE")


async def test_nobody_appends_while_a_server_is_copied(tmp_path: Path, postgres: Postgres) -> None:
    """A replica that connects during the copy cannot commit anything that the copy would miss."""
    place = address(postgres.url(), schema="held")
    await _postgres_migrate.ensure(place)
    async with postgres_end(place, empty=False):
        with pytest.raises(asyncpg.PostgresError, match="lock timeout"):
            await postgres.execute("SET lock_timeout = 100; UPDATE held.audit_head SET sequence = 1, at = 1")
    await postgres.execute("DROP SCHEMA held CASCADE")


async def test_an_old_or_missing_source_is_named(tmp_path: Path) -> None:
    """A file that is not there is not made, and a source whose schema is old is to be migrated first."""
    two = tmp_path / "two.db"
    with pytest.raises(StoreError, match=r"none\.db: there is no such file"):
        await copy(sqlite_end(tmp_path / "none.db", 0, empty=False), sqlite_end(two, 0, empty=True), lambda: 0, silent)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "new.db").touch()
    with pytest.raises(StoreError, match=r"lacks migration 1 .first.; run `remediator migrate`"):
        await copy(sqlite_end(tmp_path / "new.db", 0, empty=False), sqlite_end(two, 0, empty=True), lambda: 0, silent)


async def test_a_broken_audit_is_not_carried_on(tmp_path: Path) -> None:
    """A source whose audit somebody has changed is not copied: the copy would be a fresh start for the change."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    clock = await filled(one)
    connection = sqlite3.connect(one)
    connection.execute("DROP TRIGGER audit_no_update")
    connection.execute("UPDATE audit SET body = replace(body, 'user:ann', 'user:bob')")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="nothing was copied: the audit is not whole: record 1"):
        await copy(sqlite_end(one, clock.at, empty=False), sqlite_end(two, clock.at, empty=True), lambda: 0, silent)
