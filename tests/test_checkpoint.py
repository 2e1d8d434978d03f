"""Proves that history which is missing is found by what was kept outside the store, and that nothing trusts it then."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from remediator.anchor import read_anchor
from remediator.audit import Entry
from remediator.checkpoint import EVERY, RECORDS, Checkpoint, CheckpointFile, Keeper, thinned
from remediator.errors import Conflict, InputError
from remediator.metrics import Metrics
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import T0, CountingIds, StoreClock


class Kept:
    """A store in a file, its checkpoint, and everything that hears about both."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"
        self.file = CheckpointFile(folder / "store.db.checkpoint")
        self.clock = StoreClock()
        self.metrics = Metrics()
        self.changes = 0
        self.store = self._store()
        self.keeper = self._keeper()

    def _store(self) -> SqliteStore:
        return SqliteStore(str(self.path), clock=self.clock, ids=CountingIds())

    def _keeper(self) -> Keeper:
        return Keeper(self.store, self.file, clock=self.clock, metrics=self.metrics, changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def begin(self) -> None:
        """Open the store and look at the checkpoint, as a service does when it starts."""
        self.store = self._store()
        self.keeper = self._keeper()
        await self.store.open()
        await self.keeper.start()

    async def end(self) -> None:
        """Keep a last checkpoint and close."""
        await self.keeper.keep()
        await self.store.close()

    async def add(self, count: int) -> None:
        """Let the audit grow."""
        await self.store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(count)))

    async def grown(self, count: int) -> None:
        """Begin, grow, end."""
        await self.begin()
        await self.add(count)
        await self.end()

    async def look(self) -> None:
        """What a running service does every few seconds."""
        await self.keeper.look((await self.store.counts()).audit_records)

    async def events(self) -> list[str]:
        """The events of the audit but those of growing."""
        return [record.event async for record in self.store.audit_stream() if record.event != "x"]

    def figure(self, name: str) -> float | None:
        """A metric."""
        return self.metrics.registry.get_sample_value(f"remediator_{name}")


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    """A store with its checkpoint, not begun."""
    made = Kept(tmp_path)
    yield made
    await made.store.close()


async def test_a_store_that_only_grew_is_trusted(kept: Kept) -> None:
    """Over restarts and growth the store fits what was kept, and the metric and the time say so."""
    for _ in range(3):
        await kept.grown(5)
        kept.clock.pass_(3600)
    assert (kept.keeper.doubt, kept.keeper.trouble, kept.changes) == ("", "", 0)
    assert kept.figure("audit_checkpoint_ok") == 1
    assert kept.figure("audit_last_checkpoint_timestamp_seconds") == T0 + 7200
    assert kept.file.read()[-1].records == 16  # With the record that a checkpoint was begun.


async def test_what_is_kept_is_an_anchor(kept: Kept) -> None:
    """The file can be given to ``audit verify --anchor`` as it is, and names the newest record."""
    await kept.begin()
    await kept.add(3)
    await kept.keeper.keep()
    records = [record async for record in kept.store.audit_stream()]
    assert read_anchor(kept.file.path.read_text()) == (4, records[-1].digest)
    assert kept.file.path.stat().st_mode & 0o077 == 0


async def test_a_checkpoint_is_kept_every_minute_and_every_thousand_records(kept: Kept) -> None:
    """At most a minute or a thousand records of history can go missing unseen; and time passes also when none come."""
    await kept.begin()
    await kept.add(RECORDS - 1)
    await kept.look()
    assert kept.file.read()[-1].records == 1
    await kept.add(1)
    await kept.look()
    assert kept.file.read()[-1].records == RECORDS + 1
    kept.clock.pass_(EVERY - 1)
    await kept.add(1)
    await kept.look()
    assert kept.file.read()[-1].records == RECORDS + 1
    kept.clock.pass_(1)
    await kept.look()
    assert kept.file.read()[-1].records == RECORDS + 2
    kept.clock.pass_(EVERY)
    await kept.look()
    assert (len(kept.file.read()), kept.file.read()[-1].at) == (3, T0 + 2 * EVERY)


async def _ten_minutes_later(kept: Kept) -> None:
    await kept.begin()
    kept.clock.pass_(600)
    await kept.add(10)
    await kept.end()


async def _old_copy_back(kept: Kept) -> None:
    await kept.grown(10)
    copy = kept.path.read_bytes()
    await _ten_minutes_later(kept)
    kept.path.write_bytes(copy)


async def _tail_deleted(kept: Kept) -> None:
    await kept.grown(10)
    await _ten_minutes_later(kept)
    connection = sqlite3.connect(kept.path)
    connection.execute("DROP TRIGGER audit_no_delete")
    connection.execute("DELETE FROM audit WHERE sequence > 11")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("lose", [_old_copy_back, _tail_deleted])
async def test_missing_history_is_found_at_the_start(kept: Kept, lose: Callable[[Kept], Awaitable[None]]) -> None:
    """A backup that was put back and a deleted tail are found: doubt, metric, record, and since when it is missing."""
    await lose(kept)
    await kept.begin()
    assert kept.keeper.doubt == (
        "the audit has 11 records, and had 21 at 2023-11-14T22:23:20.000000Z: history was lost after "
        "2023-11-14T22:13:20.000000Z, when it had 11. "
        "Rules act only with approval until `remediator audit accept-loss --reason TEXT`"
    )
    assert (kept.figure("audit_checkpoint_ok"), kept.changes) == (0, 1)
    assert (await kept.events())[-1] == "audit.checkpoint_mismatch"


async def test_doubt_does_not_pass_by_itself(kept: Kept) -> None:
    """However much the store grows and however often it is started: only a person ends the doubt."""
    await _old_copy_back(kept)
    for _ in range(3):
        await kept.begin()
        await kept.add(50)
        kept.clock.pass_(EVERY)
        await kept.look()
        await kept.end()
        assert kept.keeper.doubt
    assert kept.file.read()[-1].records == 21, "the proof of the loss was overwritten"
    await kept.begin()
    assert kept.keeper.doubt.startswith("record 21 of the audit is not the one that was there at 2023-11-14T22:23:20")


async def test_a_rewritten_chain_is_found(kept: Kept, tmp_path: Path) -> None:
    """A chain of the same length that is whole in itself but other than the one that was kept is not trusted."""
    await kept.grown(10)
    other = tmp_path / "other"
    other.mkdir()
    forged = Kept(other)
    forged.clock.pass_(1)
    await forged.grown(10)
    kept.path.write_bytes(forged.path.read_bytes())
    await kept.begin()
    assert "record 11 of the audit is not the one" in kept.keeper.doubt
    assert "fits no checkpoint that is kept" in kept.keeper.doubt


async def test_history_that_goes_missing_meanwhile_is_found(kept: Kept) -> None:
    """The store is compared every time and not only at the start."""
    await kept.grown(10)
    await kept.begin()
    connection = sqlite3.connect(kept.path)
    connection.execute("DROP TRIGGER audit_no_delete")
    connection.execute("DELETE FROM audit WHERE sequence > 5")
    connection.commit()
    connection.close()
    kept.clock.pass_(EVERY)
    await kept.look()
    assert kept.keeper.doubt.startswith("the audit has 5 records, and had 11")


async def test_a_person_accepts_the_loss(kept: Kept) -> None:
    """Who accepts and why is recorded with what is lost; then a new checkpoint counts, and the older ones that fit."""
    await _old_copy_back(kept)
    await kept.begin()
    accepted = await kept.keeper.accept("user:ann", "backup of Monday")
    assert (kept.keeper.doubt, kept.figure("audit_checkpoint_ok"), kept.changes) == ("", 1, 2)
    assert [one.records for one in kept.file.read()] == [1, 11, accepted.records]
    (record,) = await kept.store.audit(event="audit.loss_accepted")
    detail = json.loads(record.body)["detail"]
    assert (record.actor, detail["reason"]) == ("user:ann", "backup of Monday")
    assert (detail["checkpoint"]["records"], detail["found"]["records"]) == (21, 12)
    await kept.end()
    await kept.begin()
    assert not kept.keeper.doubt
    with pytest.raises(Conflict, match="no loss to accept"):
        await kept.keeper.accept("user:ann", "again")


async def test_a_store_with_history_and_no_checkpoint_leaves_a_trace(kept: Kept) -> None:
    """A checkpoint that somebody took away cannot be compared with, but the audit shows that one was begun anew."""
    await kept.grown(3)
    kept.file.path.unlink()
    await kept.begin()
    assert not kept.keeper.doubt
    assert (await kept.events()).count("audit.checkpoint_begun") == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"records": 1, "head": "a", "at": "x", "history": []}', '{"history": []}', "[" * 100_000],
)
async def test_a_file_that_cannot_be_read_is_doubt(kept: Kept, text: str) -> None:
    """What cannot be compared is not trusted: a checkpoint that is no checkpoint stops rules from acting alone."""
    await kept.grown(3)
    kept.file.path.write_text(text)
    with pytest.raises(InputError, match="not readable as a checkpoint"):
        kept.file.read()
    await kept.begin()
    assert "not readable as a checkpoint" in kept.keeper.doubt
    await kept.keeper.accept("user:ann", "the disk was full")
    assert len(kept.file.read()) == 1


async def test_a_directory_that_is_not_there_is_trouble_and_no_doubt(kept: Kept, tmp_path: Path) -> None:
    """Where no checkpoint can be written the service says so and goes on, and writes as soon as it can."""
    kept.file.path = tmp_path / "none" / "kept"
    await kept.begin()
    assert "cannot be written" in kept.keeper.trouble
    assert (kept.keeper.doubt, kept.figure("audit_last_checkpoint_timestamp_seconds")) == ("", 0)
    kept.file.path.parent.mkdir()
    await kept.look()
    assert kept.keeper.trouble == ""
    assert kept.file.read()


async def test_nothing_is_kept_where_no_file_is_named(kept: Kept) -> None:
    """A store on another machine without a checkpoint of its own is neither compared nor doubted."""
    await kept.store.open()
    keeper = Keeper(kept.store, None, clock=kept.clock, metrics=kept.metrics, changed=kept._changed)
    await keeper.start()
    await keeper.look(5000)
    await keeper.keep()
    assert (keeper.doubt, keeper.trouble, await kept.events()) == ("", "", [])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A disk that is full while the checkpoint is written takes neither the old one nor leaves a half one."""
    file = CheckpointFile(tmp_path / "kept")
    one = Checkpoint(1, "a" * 64, T0)
    file.write([one])
    tmp_path.joinpath(f".kept.{os.uname().nodename}.{os.getpid()}").mkdir()
    with pytest.raises(OSError, match="directory"):
        file.write([one, Checkpoint(2, "b" * 64, T0)])
    assert file.read() == [one]


def test_old_checkpoints_are_thinned_to_one_an_hour() -> None:
    """The last hour is kept by the minute and two weeks by the hour: a loss can be dated, and the file is small."""
    kept: list[Checkpoint] = []
    for minute in range(30 * 24 * 60):
        kept = thinned([*kept, Checkpoint(minute, "a" * 64, T0 + 60 * minute)])
    assert len(kept) == 60 + 336
    assert [one.records for one in kept[-60:]] == list(range(43140, 43200))
    assert {later.records - earlier.records for earlier, later in pairwise(kept[:-61])} == {60}
