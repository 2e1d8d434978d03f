"""Proves that the incidents which the embedded store keeps in memory are told as the file tells them."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from remediator.errors import StoreUnavailable
from remediator.stores._sqlite_known import Known
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock

FAIL = """
CREATE TRIGGER no_delivery BEFORE INSERT ON audit WHEN new.event = 'delivery.accepted'
BEGIN SELECT RAISE(ABORT, 'the disk is full'); END;
"""


async def test_what_was_not_committed_is_not_remembered(tmp_path: Path) -> None:
    """The end of an alert whose commit failed never happened: the next notice is a repeat of an open incident."""
    path = tmp_path / "store.db"
    clock, ids = StoreClock(), CountingIds()
    store = SqliteStore(str(path), clock=clock, ids=ids)
    await store.open()
    bench = Bench(store, clock, ids)
    try:
        await bench.fires("a")
        assert dict((await bench.fires("a")).notices) == {"repeat": 1}
        clock.pass_(60)
        with sqlite3.connect(path) as other:
            other.executescript(FAIL)
        with pytest.raises(StoreUnavailable):
            await bench.ends("a")
        with sqlite3.connect(path) as other:
            other.execute("DROP TRIGGER no_delivery")
        other.close()
        assert dict((await bench.fires("a", start=clock.at - 60)).notices) == {"repeat": 1}
        (incident,) = await store.incidents(open_only=True)
        assert incident.open
    finally:
        await store.close()


async def test_memory_and_file_tell_alike() -> None:
    """A thousand firings, repeats and ends mean the same to a store that remembers and to one that reads each time."""
    told: list[list[dict[str, int]]] = []
    for forgets in (False, True):
        clock, ids, choice = StoreClock(), CountingIds(), random.Random(7)
        store = SqliteStore(":memory:", clock=clock, ids=ids)
        await store.open()
        bench, notices = Bench(store, clock, ids), []
        for _ in range(1000):
            if forgets:
                store._known.forget()
            clock.pass_(choice.choice((0, 1, 5, 30, 300)))
            name, key = choice.choice("abcd"), choice.choice(("", "e" * 64))
            start = bench.started.get(name)
            match choice.randrange(4):
                case 0 if start is not None:
                    receipt = await bench.ends(name, key=key)
                case 1:
                    receipt = await bench.fires(name, key=key)
                case _:
                    receipt = await bench.fires(name, start=start, key=key)
            notices.append(dict(receipt.notices))
        told.append(notices)
        await store.close()
    assert told[0] == told[1]
    assert {word for notice in told[0] for word in notice} == {"new", "joined", "repeat", "stale", "resolved", "closed"}


async def test_memory_is_bounded() -> None:
    """However many problems are told, a few thousand are remembered, and none of them has many alerts."""
    clock, ids = StoreClock(), CountingIds()
    store = SqliteStore(":memory:", clock=clock, ids=ids)
    await store.open()
    bench, known = Bench(store, clock, ids), Known()
    await bench.fires("a")
    (incident,) = await store.incidents()
    await store.close()
    known.keep({str(number): [incident] for number in range(5000)})
    assert len(known.take([str(number) for number in range(5000)])[0]) == 2048
    known.keep({"4999": [incident] * 33})
    assert known.take(["4999"]) == ({}, ["4999"])
