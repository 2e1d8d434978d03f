"""Proves where the embedded store does its work: nothing that waits keeps the event loop, and order is kept."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from remediator.audit import Entry
from remediator.stores._sqlite_writer import Transaction
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[SqliteStore, Bench]]:
    """The store in ``path``, open."""
    clock, ids = StoreClock(), CountingIds()
    store = SqliteStore(str(path), clock=clock, ids=ids)
    await store.open()
    try:
        yield store, Bench(store, clock, ids)
    finally:
        await store.close()


async def test_another_process_at_the_file_keeps_a_commit_and_not_the_loop(tmp_path: Path) -> None:
    """While somebody's shell holds the write lock, deliveries wait and everything else goes on; then they commit."""
    path = tmp_path / "store.db"
    async with opened(path) as (store, bench):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            delivery = asyncio.create_task(bench.fires("a"))
            for _ in range(20):
                assert await store.runs() == []
            assert not delivery.done()
            other.execute("ROLLBACK")
            receipt = await delivery
        assert [run.id for run in await store.runs()] == list(receipt.runs)
        assert (await bench.verified()).ok


async def test_long_operations_leave_the_loop_free_and_keep_their_place(tmp_path: Path) -> None:
    """What takes long runs beside the event loop: after what was submitted before it, and before what comes after."""
    async with opened(tmp_path / "store.db") as (store, bench):
        gate, order = threading.Event(), list[str]()

        def note(name: str, transaction: Transaction) -> None:
            order.append(name)
            transaction.record(Entry(event=name, actor="test"))

        def long(transaction: Transaction) -> None:
            assert gate.wait(10), "the event loop was kept and could not open the gate"
            note("long", transaction)

        writes = [
            store._write(lambda t: note("before", t)),
            store._write(long, long=True),
            store._write(lambda t: note("after", t)),
            store._write(lambda t: note("last", t)),
        ]
        tasks = [asyncio.ensure_future(write) for write in writes]
        assert await store.runs() == []
        gate.set()
        await asyncio.gather(*tasks)
        assert order == ["before", "long", "after", "last"]
        assert await bench.events() == order


async def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    """A write that was accepted before the store closed is on disk afterwards, however many commits it takes."""
    path = tmp_path / "store.db"
    async with opened(path) as (store, _):
        writes = [asyncio.ensure_future(store.append(Entry(event=f"e{n}", actor="test"))) for n in range(200)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writes) == [None] * 200
    async with opened(path) as (_, bench):
        assert await bench.events() == [f"e{n}" for n in range(200)]
