"""Proves what the embedded store promises about its file: one process, no acknowledged loss, old and new schemas."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from remediator.audit import Entry, verify
from remediator.errors import Conflict, StoreError, StoreUnavailable
from remediator.incident import HISTORY
from remediator.run import State
from remediator.store import Pause
from remediator.stores._sqlite_writer import Transaction
from remediator.stores.migrations import Migration, migrations, pending
from remediator.stores.sqlite import SqliteStore
from tests.stores.conformance.kit import T0, Bench, CountingIds, StoreClock, arrival, outcome, ref, sighting

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def opened(path: Path, clock: StoreClock | None = None, ids: CountingIds | None = None) -> AsyncIterator[Bench]:
    """The store in ``path``, open."""
    bench_clock, bench_ids = clock or StoreClock(), ids or CountingIds()
    store = SqliteStore(str(path), clock=bench_clock, ids=bench_ids)
    await store.open()
    try:
        yield Bench(store, bench_clock, bench_ids)
    finally:
        await store.close()


@contextmanager
def child(path: Path, task: str) -> Iterator[Popen[str]]:
    """Another process with the store in ``path``; it is dead when the block ends."""
    command = [sys.executable, "-m", "tests.stores.child", str(path), task]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = Popen(command, stdout=PIPE, text=True, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# one process ---------------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused_and_told_why(tmp_path: Path) -> None:
    """Two replicas on one file would be two writers and two chains: the second one does not start."""
    path = tmp_path / "store.db"
    async with opened(path):
        with child(path, "hold") as process:
            assert _line(process) == f"{path}: another process has this store open; SQLite serves one replica"


async def test_a_second_opener_in_one_process_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    """The refused opener leaves the first one at work, and the file free once that one has closed."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        second = SqliteStore(str(path), clock=bench.clock, ids=bench.ids)
        with pytest.raises(StoreError, match="another process has this store open"):
            await second.open()
        with pytest.raises(StoreUnavailable):
            await second.ping()
        await bench.store.ping()
    async with opened(path) as bench:
        await bench.store.ping()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Alerts and the audit can be read by the service's user and by nobody else on the machine."""
    async with opened(tmp_path / "store.db") as bench:
        await bench.fires()
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", "store.db.lock"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing/store.db", None, "no such directory; create it"),
        ("store.db", b"this is a text and not a database, " * 100, "cannot be opened as a SQLite file"),
        ("store.db", "directory", "cannot be opened"),
    ],
)
async def test_a_place_that_cannot_be_a_store_is_named(
    tmp_path: Path, name: str, content: bytes | str | None, what: str
) -> None:
    """A wrong path gets one sentence with that path and what to do, and no half-opened store."""
    path = tmp_path / name
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    store = SqliteStore(str(path), clock=StoreClock(), ids=CountingIds())
    with pytest.raises(StoreError) as error:
        await store.open()
    assert what in str(error.value) and str(tmp_path) in str(error.value)
    if isinstance(content, bytes):
        assert path.read_bytes() == content, "what was there was changed"


# what was acknowledged -----------------------------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Runs, licences, questions, pauses and the chain are read back as they were, and the chain goes on."""
    path, clock, ids = tmp_path / "store.db", StoreClock(), CountingIds()
    async with opened(path, clock, ids) as bench:
        acted = await bench.acted("a", ref("rule-a"))
        asked = await bench.asked(await bench.running("b", ref("rule-b")))
        before = await bench.look(acted.id, asked.id)
    async with opened(path, clock, ids) as bench:
        assert await bench.look(acted.id, asked.id) == before
        await bench.fires("c", ref("rule-c"))
        assert (await bench.verified()).ok
        assert len(await bench.records()) == len(before.audit) + 2


async def test_an_old_problem_is_known_after_a_restart(tmp_path: Path) -> None:
    """A problem with more lives than are looked at is told apart from the file as it was from memory."""
    path, clock, ids = tmp_path / "store.db", StoreClock(), CountingIds()
    async with opened(path, clock, ids) as bench:
        for _ in range(HISTORY + 10):
            await bench.fires()
            clock.pass_(100)
            await bench.ends()
            clock.pass_(100)
        await bench.fires()
    async with opened(path, clock, ids) as bench:
        assert dict((await bench.fires(start=clock.at + 5)).notices) == {"repeat": 1}
        assert dict((await bench.fires(start=T0)).notices) == {"stale": 1}
        assert dict((await bench.fires(start=clock.at - 200)).notices) == {"stale": 1}


async def test_a_new_process_need_not_wait_for_old_leases(tmp_path: Path) -> None:
    """Whoever holds the file knows that the last owner is dead, and takes its runs over at once."""
    path, clock, ids = tmp_path / "store.db", StoreClock(), CountingIds()
    async with opened(path, clock, ids) as bench:
        run = (await bench.running()).run
    async with opened(path, clock, ids) as bench:
        taken = await bench.claim_one("w2")
        assert (taken.run.id, taken.run.epoch, taken.run.tries) == (run.id, 2, 1)


@pytest.mark.parametrize("lines", [1, 150, 420])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, lines: int) -> None:
    """A process killed amid 200 concurrent deliveries leaves every one that it acknowledged, and a whole chain."""
    path = tmp_path / "store.db"
    with child(path, "deliver") as process:
        assert _line(process) == "open"
        acknowledged = [_line(process).split() for _ in range(lines)]
        process.kill()
        process.wait()
        assert process.stdout is not None
        rest = process.stdout.read()
    acknowledged += [words for line in rest.splitlines() if len(words := line.split()) == 2 and len(words[1]) == 26]
    async with opened(path) as bench:
        runs = {run.id for run in await bench.store.runs(limit=100_000)}
        assert {run_id for _, run_id in acknowledged} <= runs
        records = await bench.records()
        assert verify(records).ok
        assert sum(record.event == "run.queued" for record in records) == len(runs)
        with sqlite3.connect(path) as connection:
            kept = {row[0] for row in connection.execute("SELECT id FROM delivery")}
        connection.close()
        assert {delivery_id for delivery_id, _ in acknowledged} <= kept


async def test_a_full_disk_refuses_and_heals(tmp_path: Path) -> None:
    """While nothing can be written every delivery is refused; once there is room the same store goes on by itself."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.fires("before")
        store = bench.store
        assert isinstance(store, SqliteStore) and store._writer is not None
        connection = store._writer.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        told = [arrival(sighting(f"q{n}", rules=(ref(f"rule-{n}"),), annotations={"x": "y" * 4000})) for n in range(20)]
        answers = await asyncio.gather(*(outcome(store.intake(delivery)) for delivery in told))
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert len(await store.runs()) == 1 and (await bench.verified()).ok
        connection.execute("PRAGMA max_page_count = 1073741823")
        for delivery in told:
            assert len((await store.intake(delivery)).runs) == 1
        await store.ping()
        assert len(await store.runs()) == 21 and (await bench.verified()).ok


async def test_a_disk_error_is_told_by_ping(tmp_path: Path) -> None:
    """Readiness sees a store that cannot write, because ping writes; and sees it again when it can."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.fires("before")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("store.db-wal").stat().st_size, hard))
        try:
            with pytest.raises(StoreUnavailable):
                await bench.store.ping()
            with pytest.raises(StoreUnavailable):
                await bench.fires("meanwhile", ref("rule-m"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await bench.store.ping()
        await bench.fires("after", ref("rule-b"))
        assert (await bench.store.counts()).states == {"queued": 2}
        assert (await bench.verified()).ok


# the clock -----------------------------------------------------------------------------------------------------------


async def test_a_clock_that_went_back_stops_acting_and_not_intake(tmp_path: Path) -> None:
    """Leases and windows cannot be measured with a clock that was set back; deliveries are still kept."""
    async with opened(tmp_path / "store.db") as bench:
        claim = await bench.running()
        bench.clock.pass_(-5)
        for call in (bench.claim(), bench.store.licence(bench.request(claim)), bench.store.renew([claim.run], 30)):
            with pytest.raises(StoreUnavailable, match="clock went back"):
                await call
        assert len((await bench.fires("b", ref("rule-b"))).runs) == 1
        records = await bench.records()
        assert [record.at for record in records] == sorted(record.at for record in records)
        bench.clock.pass_(4)
        await bench.licensed(claim)


async def test_the_clock_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """A machine that comes up with an older time than the last record does not act before it has caught up."""
    path, ids = tmp_path / "store.db", CountingIds()
    async with opened(path, None, ids) as bench:
        await bench.fires()
    clock = StoreClock()
    clock.pass_(-3600)
    async with opened(path, clock, ids) as bench:
        with pytest.raises(StoreUnavailable, match="3600"):
            await bench.claim()
        clock.pass_(3600)
        assert (await bench.claim_one()).run.state is State.RUNNING


# the audit and the schema --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'somebody else' WHERE sequence = 1",
        "UPDATE audit SET body = body",
        "DELETE FROM audit WHERE sequence = 1",
        "DELETE FROM audit",
    ],
)
async def test_the_file_itself_refuses_to_change_the_audit(tmp_path: Path, statement: str) -> None:
    """Whoever has the file open in a SQLite shell cannot change or remove a record by mistake."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.acted("a", ref())
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="audit records are never"):
        connection.execute(statement)
    connection.close()
    async with opened(path) as bench:
        assert (await bench.verified()).ok


async def test_an_owner_who_removes_the_triggers_is_found_out(tmp_path: Path) -> None:
    """Triggers stop mistakes; against somebody who means it there is the chain."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.acted("a", ref())
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER audit_no_update")
    connection.execute("UPDATE audit SET body = replace(body, 'alertmanager:am-1', 'nobody') WHERE sequence = 1")
    connection.commit()
    connection.close()
    async with opened(path) as bench:
        answer = await bench.verified()
        assert (answer.ok, answer.at) == (False, 1)


@pytest.mark.parametrize("number", [1, 500, 1000])
async def test_a_broken_segment_is_not_removed(tmp_path: Path, number: int) -> None:
    """Retention removes no record that somebody has changed, and none after it: that would remove the evidence."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(2500)))
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER audit_no_update")
    connection.execute("UPDATE audit SET body = replace(body, '\"y\"', '\"z\"') WHERE sequence = ?", (number,))
    connection.commit()
    connection.close()
    async with opened(path) as bench:
        bench.clock.pass_(500 * 86400)
        done = await bench.store.prune(400 * 86400, 100)
        assert (done.records, done.more) == (0, False)
        assert f"record {number} was changed" in done.doubt
        assert len(await bench.records()) == 2500


async def test_only_a_removal_removes(tmp_path: Path) -> None:
    """What retention has removed stays told in the file, and the rest of the audit is as final as before."""
    path = tmp_path / "store.db"
    async with opened(path) as bench:
        await bench.store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(1500)))
        bench.clock.pass_(500 * 86400)
        assert (await bench.store.prune(400 * 86400, 100)).records == 1000
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM audit WHERE sequence = 1001", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="audit records are never removed"):
            connection.execute(statement)
    for statement in ("DELETE FROM audit_segment", "UPDATE audit_segment SET last = 2000"):
        with pytest.raises(sqlite3.IntegrityError, match="what was removed stays told"):
            connection.execute(statement)
    connection.close()


async def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """An older program after a downgrade does not touch a schema that it does not know."""
    path = tmp_path / "store.db"
    async with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO migration VALUES (9999, 'later', 'x', 0)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"schema version 9999, newer than this program knows.*install the newer"):
        async with opened(path):
            pass


async def test_an_edited_migration_is_refused(tmp_path: Path) -> None:
    """A schema that was made by another text than this program has is nothing to guess about."""
    path = tmp_path / "store.db"
    async with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("UPDATE migration SET sha256 = 'of an edited file'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="applied in another form"):
        async with opened(path):
            pass


def test_migrations_are_numbered_and_read_in_order() -> None:
    """Numbers begin with 1 and rise by one, so that two branches cannot both add the same one unnoticed."""
    found = migrations("sqlite")
    assert [migration.version for migration in found] == list(range(1, len(found) + 1))
    assert all(migration.sql.strip() and migration.name for migration in found)


def test_only_what_is_missing_is_applied() -> None:
    """A store that has the first migrations gets the later ones, in order."""
    known = [Migration(n, f"m{n}", "SELECT 1", f"digest {n}") for n in (1, 2, 3)]
    assert [m.version for m in pending(known, [])] == [1, 2, 3]
    assert [m.version for m in pending(known, [(1, "digest 1")])] == [2, 3]
    assert list(pending(known, [(n, f"digest {n}") for n in (1, 2, 3)])) == []


# commits that are shared ---------------------------------------------------------------------------------------------


async def test_concurrent_deliveries_share_commits(tmp_path: Path) -> None:
    """Two hundred deliveries at once wait for a few flushes of the disk, and not for two hundred."""
    async with opened(tmp_path / "store.db") as bench:
        store, commits = bench.store, list[str]()
        assert isinstance(store, SqliteStore) and store._writer is not None
        store._writer.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        told = [arrival(sighting(f"q{n}", rules=(ref(f"rule-{n}"),))) for n in range(200)]
        receipts = await asyncio.gather(*(store.intake(delivery) for delivery in told))
        assert len({run_id for receipt in receipts for run_id in receipt.runs}) == 200
        assert 1 <= len(commits) <= 5
        commits.clear()
        claims = await bench.claim(most=200)
        ended = await asyncio.gather(*(bench.moved(claim.run, State.SUCCEEDED) for claim in claims))
        assert len(ended) == 200 and len(commits) <= 20


async def test_one_poisoned_delivery_fails_alone(tmp_path: Path) -> None:
    """A delivery that a bug lets through and that cannot be stored takes none of its neighbours with it."""
    async with opened(tmp_path / "store.db") as bench:
        told = [sighting(f"q{n}", rules=(ref(f"rule-{n}"),)) for n in range(50)]
        told[20] = told[20]._replace(alert=told[20].alert._replace(annotations={"x": "\ud800"}))
        answers = await asyncio.gather(*(outcome(bench.store.intake(arrival(one))) for one in told))
        assert [isinstance(answer, Exception) for answer in answers] == [number == 20 for number in range(50)]
        assert isinstance(answers[20], UnicodeEncodeError)
        assert dict((await bench.store.counts()).states) == {"queued": 49}
        assert (await bench.verified()).ok


async def test_what_a_refused_operation_recorded_is_not_kept(tmp_path: Path) -> None:
    """An operation that records first and then refuses leaves nothing, and its neighbours' records are not touched."""
    async with opened(tmp_path / "store.db") as bench:
        store = bench.store
        assert isinstance(store, SqliteStore)

        def refuse(transaction: Transaction) -> None:
            transaction.record(Entry(event="refused", actor="test"))
            raise Conflict("no")

        calls = [store._write(refuse) if n % 3 else store.append(Entry(event="kept", actor="test")) for n in range(30)]
        answers = await asyncio.gather(*(outcome(call) for call in calls))
        assert [isinstance(answer, Conflict) for answer in answers] == [bool(n % 3) for n in range(30)]
        assert await bench.events() == ["kept"] * 10
        assert (await bench.verified()).ok


async def test_a_caller_that_gives_up_does_not_stop_the_others(tmp_path: Path) -> None:
    """A delivery whose sender was told 503 meanwhile may still be committed, and its neighbours are answered."""
    async with opened(tmp_path / "store.db") as bench:
        told = [arrival(sighting(f"q{n}", rules=(ref(f"rule-{n}"),))) for n in range(20)]
        calls = [asyncio.ensure_future(bench.store.intake(delivery)) for delivery in told]
        await asyncio.sleep(0)
        calls[7].cancel()
        answers = await asyncio.gather(*(outcome(call) for call in calls if call is not calls[7]))
        assert not any(isinstance(answer, Exception) for answer in answers)
        again = await bench.store.intake(told[7])
        assert again.notices in ({"repeat": 1}, {"new": 1})
        assert dict((await bench.store.counts()).states) == {"queued": 20}


async def test_pauses_are_told_as_they_are_while_they_change(tmp_path: Path) -> None:
    """A pause that is engaged while the pauses are read for the first time is shown from then on."""
    async with opened(tmp_path / "store.db") as bench:
        pause = Pause("global", "stop", "user:ann", T0, None)
        await asyncio.gather(bench.store.pauses(), bench.store.pause(pause), bench.store.pauses())
        assert list(await bench.store.pauses()) == [pause]
