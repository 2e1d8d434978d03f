"""``postgres.verify_dump``: prove that a backup can be read to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from remediator.action import Action, ActionContext, Change, Effect, Happened, Outcome
from remediator.clock import Duration, format_duration
from remediator.errors import PermanentError
from remediator.integrations._size import Size
from remediator.integrations.postgres._dump import SUFFIX, contents, dumps, read_back
from remediator.integrations.postgres._names import Name
from remediator.integrations.postgres.target import PostgresTarget

File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$")]


class VerifyDump(Action[PostgresTarget]):
    """Checks age, size and list of a dump, reads it to its end, and notes beside it that it was good.

    The list alone stands at the beginning of the file and proves nothing about the rest.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"dumps", "max_age", "min_size", "min_tables"})

    dumps: Name = Field(description="Where it is, by its name in the settings of the target.")
    file: File | None = Field(
        default=None, description="Its name there, such as `${{ steps.dump.file }}`; the newest `.dump` if absent."
    )
    max_age: Duration | None = Field(default=None, gt=0, description="It must not be older than this.")
    min_size: Size = Field(default=1, ge=1, description="It must be at least this large.")
    min_tables: int = Field(default=1, ge=0, description="It must hold the data of at least this many tables.")

    def needs(self) -> Mapping[str, str]:
        """The name must be permitted."""
        return {"dumps": self.dumps}

    def subject(self) -> str:
        """Where the dumps are."""
        return f"dumps/{self.dumps}"

    def _choose(self, folder: Path) -> Path:
        if self.file is not None:
            file = folder / self.file
            if file.is_symlink() or not file.is_file():
                raise PermanentError(f"{file} is no file", reason="missing")
            return file
        found = [each for each in folder.glob(f"*{SUFFIX}") if each.is_file() and not each.is_symlink()]
        if not found:
            raise PermanentError(f"{folder} holds no {SUFFIX} file", reason="missing")
        return max(found, key=lambda each: (each.stat().st_mtime, each.name))

    async def diff(self, target: PostgresTarget, context: ActionContext) -> Change:
        """Which file would be checked; nothing to do if it was good and has not changed since.

        Raises PermanentError if there is none, or if it is too old or too small.
        """
        where = dumps(target, self.dumps)
        file = await asyncio.to_thread(self._choose, Path(where.directory))
        state = await asyncio.to_thread(file.stat)
        age = context.clock.now() - state.st_mtime
        if self.max_age is not None and age > self.max_age:
            raise PermanentError(
                f"{file} is {format_duration(round(age))} old, more than {format_duration(self.max_age)}", reason="old"
            )
        if state.st_size < self.min_size:
            raise PermanentError(f"{file} has {state.st_size} bytes, fewer than {self.min_size}", reason="small")
        wanted = {"file": file.name, "bytes": state.st_size, "changed_ns": state.st_mtime_ns, "tables": self.min_tables}
        good = await asyncio.to_thread(_noted, file) == wanted
        return Change(
            summary=f"check {file}",
            before={**wanted, "good": True if good else None},
            after={**wanted, "good": True},
        )

    async def apply(self, target: PostgresTarget, change: Change, context: ActionContext) -> Outcome:
        """Check it. Raises PermanentError if it is not good; then nothing is noted."""
        where = dumps(target, self.dumps)
        file = Path(where.directory) / str(change.after["file"])
        found = await contents(target, where, file)
        if found.tables < self.min_tables:
            raise PermanentError(
                f"{file} holds the data of {found.tables} tables, fewer than {self.min_tables}", reason="tables"
            )
        await read_back(target, where, file)
        context.check_deadline()
        note = {name: change.after[name] for name in ("file", "bytes", "changed_ns", "tables")}
        await asyncio.to_thread(_beside(file).write_text, json.dumps(note))
        return Outcome(
            summary=f"{file} is good: {found.tables} tables",
            data={"file": file.name, "bytes": note["bytes"], "entries": found.entries, "tables": found.tables},
        )

    async def reconcile(self, target: PostgresTarget, change: Change, context: ActionContext) -> Happened:
        """Yes if it was noted as good, else no."""
        file = Path(dumps(target, self.dumps).directory) / str(change.after["file"])
        noted = await asyncio.to_thread(_noted, file)
        wanted = {name: value for name, value in change.after.items() if name != "good"}
        return Happened.YES if noted == wanted else Happened.NO


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.verified")


def _noted(file: Path) -> Any:
    """What was noted about it; None if nothing that can be read."""
    try:
        return json.loads(_beside(file).read_text())
    except (OSError, ValueError):
        return None
