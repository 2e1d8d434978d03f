"""Proves that the embedded store keeps every promise of the port, in the caller's thread and in its own ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.claims import Claims
from tests.stores.conformance.facts import Facts
from tests.stores.conformance.followups import Followups
from tests.stores.conformance.intake import Intake
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock
from tests.stores.conformance.licences import Licences
from tests.stores.conformance.life import Life
from tests.stores.conformance.money import Money
from tests.stores.conformance.people import People
from tests.stores.conformance.record import Record
from tests.stores.conformance.retention import Retention
from tests.stores.conformance.tally import Tallies


@pytest.fixture(params=["memory", "threads"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """A new store: in memory and in the caller's thread, as unit tests use it, or on disk with its own threads."""
    clock, ids = StoreClock(), CountingIds()
    path = ":memory:" if request.param == "memory" else str(tmp_path / "store.db")
    store = SqliteStore(path, clock=clock, ids=ids)
    await store.open()
    yield Bench(store, clock, ids)
    await store.close()


class TestSqlite(Facts, Intake, Claims, Licences, Money, People, Followups, Record, Retention, Tallies, Life):
    """The one suite that every store must pass."""
