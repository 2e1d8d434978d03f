"""``postgres.dump``: a backup of the database in PostgreSQL's custom format."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import structlog
from pydantic import Field

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres._dump import SUFFIX, contents, dumps, free_bytes, last_words, run
from remediator.integrations.postgres._names import Name
from remediator.integrations.postgres.target import PostgresTarget

_log = structlog.get_logger("remediator.postgres")
_EVERY = 10.0
_MARK = re.compile(r"[^A-Za-z0-9._-]")


class Dump(Action[PostgresTarget]):
    """Writes ``pg_dump --format=custom`` to a file of its own, checks its list, and only then gives it its name.

    Nothing is begun unless as much space is free as the database takes.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"dumps"})

    dumps: Name = Field(description="Where it goes, by its name in the settings of the target.")

    def needs(self) -> Mapping[str, str]:
        """The name must be permitted."""
        return {"dumps": self.dumps}

    def subject(self) -> str:
        """The database: it is dumped once at a time."""
        return f"dumps/{self.dumps}"

    async def diff(self, target: PostgresTarget, context: ActionContext) -> Change:
        """The file that there would be. Raises TemporaryError where there is too little space."""
        where = dumps(target, self.dumps)
        file = Path(where.directory) / f"{self.dumps}-{_MARK.sub('-', context.key)}{SUFFIX}"
        there = await asyncio.to_thread(file.exists)
        client = await target.client()
        size = await client.look(
            target, lambda connection: connection.fetchval("SELECT pg_database_size(current_database())")
        )
        free = await asyncio.to_thread(free_bytes, where)
        if not there and free < size + where.min_free:
            raise TemporaryError(
                f"{where.directory} has {free} bytes free; the database takes {size}, and {where.min_free} must stay",
                reason="disk_space",
            )
        after = {"file": str(file), "format": "custom", "database": target.database}
        return Change(
            summary=f"dump {target.database} to {file}",
            before=after if there else {"file": None},
            after=after,
            volatile={"database_bytes": size, "free_bytes": free},
        )

    async def apply(self, target: PostgresTarget, change: Change, context: ActionContext) -> Outcome:
        """Write it and check it. Raises TemporaryError or PermanentError when there is no such file afterwards."""
        where = dumps(target, self.dumps)
        file = Path(str(change.after["file"]))
        partial = file.with_suffix(".partial")
        argv = ["pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s", f"--file={partial}"]
        argv += [f"--host={target.host}", f"--port={target.port}", f"--username={target.user}"]
        argv += [f"--dbname={target.database}"]
        await asyncio.to_thread(_sweep, partial.parent, self.dumps, context.clock.now() - 2 * where.timeout)
        context.check_deadline()
        try:
            async with _told(partial, int(change.volatile.get("database_bytes", 0))):
                ended = await run(target, where, argv, connects=True)
            if ended.code != 0:
                raise _failed(last_words(ended))
            found = await contents(target, where, partial)
            size = await asyncio.to_thread(_keep, partial, file)
        finally:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(partial.unlink)
        return Outcome(
            summary=f"{file}: {size} bytes, {found.tables} tables",
            data={
                "file": file.name,
                "path": str(file),
                "bytes": size,
                "entries": found.entries,
                "tables": found.tables,
            },
        )

    async def verify(self, target: PostgresTarget, change: Change, context: ActionContext) -> None:
        """Returns if the file is there. Raises PermanentError if not."""
        if not await asyncio.to_thread(Path(str(change.after["file"])).is_file):
            raise PermanentError(f"{change.after['file']} is gone", reason="gone")

    async def reconcile(self, target: PostgresTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if the file has its name, which it gets last; else no."""
        there = await asyncio.to_thread(Path(str(change.after["file"])).is_file)
        return Happened.YES if there else Happened.NO


def _failed(said: str) -> TemporaryError | PermanentError:
    """The word for a pg_dump that failed."""
    lasting = ("permission denied", "authentication failed", "no password supplied", "version mismatch", "not exist")
    if any(part in said for part in lasting):
        return PermanentError(f"pg_dump failed: {said}", reason="pg_dump")
    return TemporaryError(f"pg_dump failed: {said}", reason="pg_dump")


def _sweep(folder: Path, name: str, before: float) -> None:
    """Remove what interrupted dumps left behind, which no one has written to since ``before`` (Unix seconds)."""
    for part in folder.glob(f"{name}-*.partial"):
        if part.is_file() and part.stat().st_mtime < before:
            part.unlink(missing_ok=True)


def _keep(partial: Path, file: Path) -> int:
    """Make the file durable under its own name and return its size."""
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.chmod(0o600)
    partial.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return file.stat().st_size


@asynccontextmanager
async def _told(partial: Path, total: int) -> AsyncIterator[None]:
    """Say every few seconds how far it has got."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(_EVERY)
            with suppress(OSError):
                size = (await asyncio.to_thread(partial.stat)).st_size
                _log.info("dump is being written", file=partial.name, bytes=size, database_bytes=total)

    task: asyncio.Task[Any] = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
