"""The measure of all rates: aiohttp and json.loads, and if asked one database row for each body, in shared commits.

``python -m tests.bench.bare PORT [FILE or postgresql://...]``. It is what the same parts could do at most, and no peer
that does less is faster for a reason that matters here.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import threading
from typing import Any

import asyncpg
from aiohttp import web

Waiting = tuple[bytes, asyncio.Future[None]]


class Rows:
    """Writes one row for each body; bodies that wait at the same time share a commit (synchronous=FULL)."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, body BLOB)")
        threading.Thread(target=self._work, daemon=True).start()

    async def keep(self, body: bytes) -> None:
        """Returns once the row is durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((body, future))
        await future

    def _work(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < 256 and not self._queue.empty():
                batch.append(self._queue.get())
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO row (body) VALUES (?)", [(body,) for body, _ in batch])
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_done, [future for _, future in batch])


class PostgresRows:
    """The same on PostgreSQL: one statement for what waits, which is its own transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting: list[Waiting] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> PostgresRows:
        """Connect and make the table."""
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea)")
        return cls(connection)

    async def keep(self, body: bytes) -> None:
        """Returns once the row is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        await future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._connection.execute(
                "INSERT INTO row (body) SELECT unnest($1::bytea[])", [body for body, _ in batch]
            )
            _done([future for _, future in batch])


def _done(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def _rows(where: str) -> Rows | PostgresRows | None:
    if where.startswith("postgresql:"):
        return await PostgresRows.open(where)
    return Rows(where) if where else None


async def _main(port: int, where: str) -> None:
    rows = await _rows(where)

    async def deliver(request: web.Request) -> web.Response:
        body = await request.read()
        document: Any = json.loads(body)
        if rows is not None:
            await rows.keep(body)
        return web.json_response({"accepted": len(document["alerts"])})

    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/api/v1/alertmanager", deliver)
    app.router.add_get("/-/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
