"""The size and head of the audit, kept in a file outside the store, and whether the store still fits them.

Whoever puts an old copy of the database back, or deletes the newest records, leaves a chain that is whole. Only what
was kept elsewhere shows that history is missing: with it limits, licences and pauses that were in force then.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from remediator.anchor import make_anchor
from remediator.audit import GENESIS, AuditRecord, Entry
from remediator.clock import Clock, format_instant, parse_instant
from remediator.errors import Conflict, InputError, StoreUnavailable
from remediator.metrics import Metrics
from remediator.store import Store

_log = structlog.get_logger("remediator.checkpoint")
EVERY = 60.0
"""Seconds after which a checkpoint is written at the latest, also if nothing has happened."""
RECORDS = 1000
"""Records after which one is written before that."""
_RECENT, _HOURLY = 60, 336
_NEWEST = 1 << 62


class Checkpoint(NamedTuple):
    """The chain as it was ``at`` (Unix seconds): so many records, the last with digest ``head`` (hex)."""

    records: int
    head: str
    at: float

    def as_json(self) -> dict[str, Any]:
        """What stands in the file and in the audit."""
        return {"records": self.records, "head": self.head, "at": format_instant(self.at)}


def _checkpoint(data: object) -> Checkpoint:
    if type(data) is not dict or type(data.get("at")) is not str:
        raise InputError('a checkpoint has "records", "head" and "at"')
    anchor = make_anchor(data.get("records"), data.get("head"))
    return Checkpoint(anchor.records, anchor.head, parse_instant(data["at"]))


class CheckpointFile:
    """A JSON object: the newest checkpoint, as ``audit verify --anchor`` takes it, and ``history`` before it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Checkpoint]:
        """The checkpoints, oldest first; none if there is no file. Raises InputError when it cannot be read."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return [_checkpoint(entry) for entry in [*data["history"], data]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
            raise InputError(f"{self.path}: not readable as a checkpoint of the audit: {error}") from None

    def write(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Replace the file by these, so that it holds the old ones or the new ones after any crash. Raises OSError."""
        *history, newest = checkpoints
        lines = ",\n  ".join(json.dumps(one.as_json()) for one in history)
        head = json.dumps(newest.as_json())[:-1]
        text = f'{head}, "history": [\n  {lines}\n]}}\n' if history else f'{head}, "history": []}}\n'
        # Replicas may share the file, and in containers all of them have the same process id.
        draft = self.path.with_name(f".{self.path.name}.{os.uname().nodename}.{os.getpid()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def thinned(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The newest as they are, and of those before them the last of each hour: two weeks in a small file."""
    hours = {int(one.at // 3600): one for one in checkpoints[:-_RECENT]}
    return [*list(hours.values())[-_HOURLY:], *checkpoints[-_RECENT:]]


class Keeper:
    """Writes checkpoints of ``store`` and compares it with the newest one, at the start and every time.

    ``doubt`` says why the store is not the one that the checkpoint is about; it stays until a person accepts the loss,
    and ``changed`` is called when it comes and goes. ``trouble`` says why no checkpoint can be written. Without a
    ``file`` nothing is kept and nothing is doubted.
    """

    def __init__(
        self, store: Store, file: CheckpointFile | None, *, clock: Clock, metrics: Metrics, changed: Callable[[], None]
    ) -> None:
        self._store = store
        self._file = file
        self._clock = clock
        self._metrics = metrics
        self._changed = changed
        self._kept: list[Checkpoint] = []
        self._looked = float("-inf")
        self.doubt = ""
        self.trouble = ""
        metrics.audit_checkpoint_ok.set(1)

    async def start(self) -> None:
        """Compare the store with what was kept before anything acts. Raises StoreUnavailable."""
        if self._file is None:
            return
        try:
            self._kept = await asyncio.to_thread(self._file.read)
        except InputError as error:
            await self._doubted(str(error), {"error": str(error)})
            return
        if not self._kept:
            # A new store, or somebody took the file away: the record shows when that happened.
            place, size = str(self._file.path), (await self._newest()).records
            await self._store.append(
                Entry(event="audit.checkpoint_begun", actor="remediator", detail={"file": place})
            )
            _log.warning("there is no checkpoint of the audit yet; one is begun", file=place, records=size)
        await self.keep()

    async def look(self, records: int) -> None:
        """Keep a checkpoint if one is due; ``records`` is the audit's size. Raises StoreUnavailable."""
        if self._file is None or self.doubt:
            return
        grown = records - self._kept[-1].records if self._kept else RECORDS
        if grown >= RECORDS or self._clock.monotonic() - self._looked >= EVERY:
            await self.keep()

    async def keep(self) -> None:
        """Compare, and keep the store's present size and head. Raises StoreUnavailable."""
        if self._file is None or self.doubt:
            return
        self._looked = self._clock.monotonic()
        newest = await self._newest()
        if self._kept and not await self._fits(self._kept[-1]):
            await self._missing(self._kept[-1], newest)
            return
        before = self._kept if not self._kept or self._kept[-1].records != newest.records else self._kept[:-1]
        await self._write(self._file, thinned([*before, newest]))

    async def accept(self, actor: str, reason: str) -> Checkpoint:
        """A person takes the store as it is; what is lost is recorded. Raises Conflict, StoreUnavailable."""
        if self._file is None or not self.doubt:
            raise Conflict("there is no loss to accept: the audit fits its checkpoint")
        detail: dict[str, Any] = {"reason": reason, "doubt": self.doubt, "found": (await self._newest()).as_json()}
        if self._kept:
            detail["checkpoint"] = self._kept[-1].as_json()
        fitting = await self._fitting()
        await self._store.append(Entry(event="audit.loss_accepted", actor=actor, detail=detail))
        accepted = await self._newest()
        await self._write(self._file, [*fitting, accepted])
        if self.trouble:
            raise Conflict(f"the loss cannot be accepted: {self.trouble}")
        self.doubt = ""
        self._metrics.audit_checkpoint_ok.set(1)
        _log.warning("the loss of history was accepted", actor=actor, reason=reason, records=accepted.records)
        self._changed()
        return accepted

    async def _write(self, file: CheckpointFile, checkpoints: list[Checkpoint]) -> None:
        try:
            await asyncio.to_thread(file.write, checkpoints)
        except OSError as error:
            if not self.trouble:
                _log.error("no checkpoint of the audit can be written", file=str(file.path), error=str(error))
            self.trouble = f"{file.path}: the checkpoint of the audit cannot be written: {error.strerror}"
            return
        self._kept, self.trouble = checkpoints, ""
        self._metrics.audit_last_checkpoint_timestamp_seconds.set(checkpoints[-1].at)

    async def _newest(self) -> Checkpoint:
        records = await self._store.audit(before=_NEWEST, limit=1)
        now = self._clock.now()
        return Checkpoint(records[0].sequence, records[0].digest, now) if records else Checkpoint(0, GENESIS.hex(), now)

    async def _record(self, number: int) -> AuditRecord | None:
        records = await self._store.audit(after=number - 1, limit=1)
        return records[0] if records and records[0].sequence == number else None

    async def _fits(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.records == 0:
            return True
        record = await self._record(checkpoint.records)
        return record is not None and record.digest == checkpoint.head

    async def _fitting(self) -> list[Checkpoint]:
        """The kept checkpoints up to the newest one that the store fits: what came before that one fits as well."""
        for index in range(len(self._kept) - 1, -1, -1):
            if await self._fits(self._kept[index]):
                return self._kept[: index + 1]
        return []

    async def _missing(self, kept: Checkpoint, found: Checkpoint) -> None:
        if found.records < kept.records:
            said = f"the audit has {found.records} records, and had {kept.records} at {format_instant(kept.at)}"
        else:
            said = f"record {kept.records} of the audit is not the one that was there at {format_instant(kept.at)}"
        fitting = await self._fitting()
        detail: dict[str, Any] = {"checkpoint": kept.as_json(), "found": found.as_json()}
        if fitting:
            detail["fits"] = fitting[-1].as_json()
            said += f": history was lost after {format_instant(fitting[-1].at)}, when it had {fitting[-1].records}"
        else:
            said += ", and it fits no checkpoint that is kept: history was lost or rewritten"
        await self._doubted(said, detail)

    async def _doubted(self, said: str, detail: dict[str, Any]) -> None:
        self.doubt = f"{said}. Rules act only with approval until `remediator audit accept-loss --reason TEXT`"
        self._metrics.audit_checkpoint_ok.set(0)
        _log.error("the store does not fit its checkpoint; nothing acts without approval", doubt=said, **detail)
        self._changed()
        with suppress(StoreUnavailable):
            await self._store.append(Entry(event="audit.checkpoint_mismatch", actor="remediator", detail=detail))
