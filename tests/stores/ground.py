"""A schema of a real PostgreSQL for each test, replicas on it, and a database clock that tests can hold still."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remediator.clock import Clock
from remediator.stores.postgres import PostgresStore
from tests.postgres import Postgres
from tests.stores.conformance.kit import Bench, CountingIds, StoreClock

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

    def store(self, *, clock: Clock | None = None, url: str = "", **options: Any) -> PostgresStore:
        """A replica; ids of its own, as in a process of its own."""
        ids = CountingIds()
        ids.made = len(self.stores) * 1_000_000
        where = url or self.server.url()
        store = PostgresStore(where, schema=self.schema, clock=clock or self.clock, ids=ids, **options)
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

    def bench(self, store: PostgresStore) -> Bench:
        """A bench around one replica; identifiers that the test makes itself differ from the replica's."""
        ids = CountingIds()
        ids.made = 500_000_000
        return Bench(store, self.clock, ids)

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
    return ground.bench(store)
