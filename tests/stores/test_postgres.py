"""Proves that the PostgreSQL store keeps every promise of the port: the one suite that every store must pass."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from remediator.anchor import Walk
from remediator.stores import _postgres_migrate
from remediator.stores.postgres import PostgresStore
from tests.postgres import PASSWORD, Postgres, postgres
from tests.stores.conformance.claims import Claims
from tests.stores.conformance.intake import Intake
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock, ref
from tests.stores.conformance.licences import Licences
from tests.stores.conformance.life import Life
from tests.stores.conformance.people import People
from tests.stores.conformance.record import Record
from tests.stores.conformance.retention import KEEP, Retention, everything_old, fill

__all__ = ["postgres"]

_schemas = (f"test_{number}" for number in itertools.count(1))


class FileClock(StoreClock):
    """The clock of a database whose one function of time reads a file, which goes only when a test lets it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0.0
        super().__init__()

    @property
    def at(self) -> float:
        """Unix seconds as the test has set them."""
        return self._at

    @at.setter
    def at(self, value: float) -> None:
        self._at = value
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(repr(value))
        os.replace(fresh, self.path)


@dataclass
class Ground:
    """A fresh schema, and stores on it: each is one replica."""

    server: Postgres
    schema: str
    clock: FileClock
    stores: list[PostgresStore] = field(default_factory=list)

    def store(self, **options: Any) -> PostgresStore:
        """A replica; ids of its own, as in a process of its own."""
        ids = CountingIds()
        ids.made = len(self.stores) * 1_000_000
        options = {"url": self.server.url(), "schema": self.schema, "clock": self.clock, "ids": ids, **options}
        store = PostgresStore(**options)
        self.stores.append(store)
        return store

    async def replica(self, **options: Any) -> PostgresStore:
        """A replica that is open."""
        store = self.store(**options)
        await store.open()
        return store

    async def replicas(self, count: int, **options: Any) -> list[PostgresStore]:
        """Several of them."""
        return [await self.replica(**options) for _ in range(count)]

    async def hold_time(self) -> None:
        """From here on the clock of the database stands still until a test moves it."""
        await self.server.execute(
            f"CREATE OR REPLACE FUNCTION {self.schema}.remediator_now() RETURNS double precision LANGUAGE sql VOLATILE"
            f" SECURITY DEFINER AS $$SELECT pg_read_file('{self.clock.path}')::double precision$$"
        )

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query in this schema, past the store."""
        return await self.server.fetch(query.replace("{s}", self.schema), *values)


@pytest.fixture
async def ground(postgres: Postgres) -> AsyncIterator[Ground]:
    """A schema of its own for one test."""
    schema = next(_schemas)
    ground = Ground(postgres, schema, FileClock(postgres.folder / schema))
    yield ground
    await asyncio.gather(*(store.close() for store in ground.stores))
    await postgres.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
async def bench(ground: Ground) -> Bench:
    """A new store whose clock stands still."""
    store = await ground.replica()
    await ground.hold_time()
    return Bench(store, ground.clock, CountingIds())


class TestPostgres(Intake, Claims, Licences, People, Record, Retention, Life):
    """The one suite that every store must pass."""


# retention -----------------------------------------------------------------------------------------------------------


async def test_a_service_that_does_not_own_the_schema_removes_what_is_old(ground: Ground) -> None:
    """A role with no more than its grants prunes runs and whole segments, and cannot remove a record in another way."""
    await (await ground.replica()).close()
    await ground.hold_time()
    role = f"{ground.schema}_app"
    await ground.server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    await _postgres_migrate.migrate(ground.stores[0]._address, grant_to=role)
    store = await ground.replica(url=ground.server.url(user=role))
    bench = Bench(store, ground.clock, CountingIds())
    await bench.acted("a", ref("rule-a"))
    await bench.ends("a", ref("rule-a"))
    await fill(bench, 1500)
    connection = await asyncpg.connect(ground.server.url(user=role))
    try:
        await connection.execute(f"SET search_path TO {ground.schema}")
        (head,) = await connection.fetchrow("SELECT digest FROM audit WHERE sequence = 1000")
        for call, values in (
            ("SELECT audit_remove(1000, $1)", (head,)),
            ("SELECT audit_remove(1500, $1)", (head,)),
            ("DELETE FROM audit", ()),
            ("INSERT INTO audit_segment VALUES (1000, 1, $1, 0, 0)", (head,)),
        ):
            with pytest.raises(asyncpg.PostgresError, match=r"never changed or removed|permission denied"):
                await connection.execute(call, *values)
    finally:
        await connection.close()
    bench.clock.pass_(KEEP + 60)
    (done, *_) = await everything_old(bench)
    assert (done.runs, done.effects, done.incidents, done.records) == (1, 1, 1, 1000)
    walk = Walk()
    walk.add(await bench.records())
    assert walk.result().ok


async def test_replicas_remove_beside_each_other(ground: Ground) -> None:
    """However many replicas remove at once, each row and each segment goes once and the chain stays whole."""
    stores = await ground.replicas(4)
    await ground.hold_time()
    bench = Bench(stores[0], ground.clock, CountingIds())
    for number in range(12):
        await bench.acted(f"q{number}", ref(f"rule-{number}"))
        await bench.ends(f"q{number}", ref(f"rule-{number}"))
    await fill(bench, 3500)
    bench.clock.pass_(KEEP + 60)
    done = [await asyncio.gather(*(store.prune(KEEP, 2) for store in stores)) for _ in range(4)]
    totals = [sum(column) for column in zip(*(one[:5] for round_ in done for one in round_), strict=True)]
    assert totals == [24, 12, 12, 12, 3000]
    walk = Walk()
    walk.add(await bench.records())
    assert walk.result().ok
