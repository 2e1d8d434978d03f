"""Proves what the PostgreSQL store does while its server is away, which schemas it takes, and who may change what."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from remediator.audit import verify
from remediator.errors import StoreError, StoreUnavailable
from remediator.facts import GuardState
from remediator.run import State
from remediator.store import Licence
from remediator.stores import _postgres_migrate
from remediator.stores.migrations import migrations
from remediator.stores.postgres import PostgresStore
from tests.postgres import PASSWORD, Postgres, postgres
from tests.servers import ROOT
from tests.stores.conformance.kit import T0, Bench, arrival, entry, outcome, ref, sighting
from tests.stores.conformance.life import every_verb
from tests.stores.ground import Ground, bench, ground

__all__ = ["bench", "ground", "postgres"]


def _seconds() -> float:
    return asyncio.get_running_loop().time()


async def _all_refuse(bench: Bench, claim: object, within: float) -> None:
    """Every verb says StoreUnavailable within so many seconds."""
    for name, call in every_verb(bench, claim).items():
        begun = _seconds()
        answer = await outcome(call())
        assert isinstance(answer, StoreUnavailable), f"{name}: {answer!r}"
        assert _seconds() - begun < within, f"{name} took {_seconds() - begun:.1f} s"


async def _back(store: PostgresStore, within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while isinstance(await outcome(store.ping()), StoreUnavailable):
            await asyncio.sleep(0.02)


# the server is away --------------------------------------------------------------------------------------------------


async def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(ground: Ground, postgres: Postgres) -> None:
    """The server crashes twice amid deliveries to two replicas: senders hear 'not now', and what was taken is there."""
    replicas = await ground.replicas(2)
    woken = asyncio.Event()
    replicas[1].on_wake(woken.set)
    stopping, accepted, refused = asyncio.Event(), set[str](), 0

    async def sender(number: int) -> None:
        nonlocal refused
        count = 0
        while not stopping.is_set():
            count += 1
            delivery = arrival(sighting(f"q{number}-{count}", rules=(ref(),)))
            answer = await outcome(replicas[number % 2].intake(delivery))
            if isinstance(answer, Exception):
                assert isinstance(answer, StoreUnavailable), repr(answer)
                refused += 1
                await asyncio.sleep(0.02)
            else:
                accepted.update(answer.runs)

    senders = [asyncio.create_task(sender(number)) for number in range(6)]
    for _ in range(2):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)
        await asyncio.gather(*map(_back, replicas))
    before = len(accepted)
    await asyncio.sleep(0.3)
    stopping.set()
    await asyncio.gather(*senders)
    assert len(accepted) > before > 0 and refused > 0
    kept = {run.id for run in await replicas[0].runs(limit=1_000_000)}
    assert accepted <= kept
    assert verify([record async for record in replicas[0].audit_stream()]).ok
    # And what one replica makes due the other one hears again.
    async with asyncio.timeout(10):
        while True:
            woken.clear()
            await ground.bench(replicas[0]).fires(f"after-{_seconds()}", ref("rule-after"))
            await asyncio.sleep(0.1)
            if woken.is_set():
                break


async def test_while_the_server_is_down_every_verb_says_so(ground: Ground, postgres: Postgres) -> None:
    """Nothing hangs and nothing else is raised; the same object goes on when the server is back."""
    bench = ground.bench(await ground.replica())
    claim = await bench.running()
    await asyncio.to_thread(postgres.stop)
    try:
        await _all_refuse(bench, claim, within=1.0)
    finally:
        await asyncio.to_thread(postgres.start)
    await _back(ground.stores[0])
    assert (await bench.moved(claim.run, State.SUCCEEDED)).version == claim.run.version + 1


async def test_while_the_server_hangs_every_verb_gives_up_in_time(ground: Ground, postgres: Postgres) -> None:
    """A server that answers nothing any more costs each verb its time-out and no more; then it goes on."""
    store = await ground.replica(connect_timeout=0.3, acquire_timeout=0.4, command_timeout=0.4, verb_timeout=0.5)
    bench = ground.bench(store)
    claim = await bench.running()
    postgres.freeze()
    try:
        await _all_refuse(bench, claim, within=0.9)
    finally:
        postgres.thaw()
    await _back(store)
    await bench.fires("b", ref("rule-b"))


async def test_a_server_that_is_not_there_is_named_without_its_password(ground: Ground, postgres: Postgres) -> None:
    """Wrong addresses, users and passwords are told apart by the server's own words, and no secret is repeated."""
    place = f"127.0.0.1:{postgres.port}/postgres"
    for url, what in (
        ("postgresql://superuser:hush@127.0.0.1:1/postgres", "127.0.0.1:1/postgres"),
        (postgres.url(password="hush"), f"{place}: password authentication failed"),
        (postgres.url("nowhere"), 'database "nowhere" does not exist'),
    ):
        with pytest.raises(StoreUnavailable, match=re.escape(what)) as error:
            await ground.replica(url=url)
        assert "hush" not in str(error.value) and PASSWORD not in str(error.value)
    with pytest.raises(StoreError, match="is not like postgresql://"):
        ground.store(url="mysql://hush@127.0.0.1/db")
    ground.schema = 'x"; DROP'
    with pytest.raises(StoreError, match="cannot be the schema"):
        ground.store()
    ground.schema = "unused"


async def test_the_host_that_accepts_writes_is_found(ground: Ground, postgres: Postgres) -> None:
    """Of several hosts in the address one that does not answer is passed over."""
    url = postgres.url().replace("@", "@127.0.0.1:1,")
    await ground.bench(await ground.replica(url=url)).fires()


async def test_a_standby_is_not_written_to(ground: Ground, postgres: Postgres) -> None:
    """A server that only reads is told apart before anything is promised on it."""
    await ground.replica()
    await postgres.execute("CREATE ROLE reader LOGIN SUPERUSER PASSWORD 'reader'")
    try:
        await postgres.execute("ALTER ROLE reader SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await ground.replica(url=postgres.url(user="reader", password="reader"))
    finally:
        await postgres.execute("DROP ROLE reader")


async def test_a_password_can_be_changed_while_it_runs(ground: Ground, postgres: Postgres, tmp_path: Path) -> None:
    """The file is read for every new connection: nobody restarts the service to rotate a password."""
    file = tmp_path / "password"
    file.write_text("first\n")
    await postgres.execute(
        "CREATE ROLE rotated LOGIN PASSWORD 'first'", f"CREATE SCHEMA {ground.schema} AUTHORIZATION rotated"
    )
    try:
        store = await ground.replica(url=postgres.url(user="rotated", password=""), password_file=str(file))
        await postgres.execute("ALTER ROLE rotated PASSWORD 'second'")
        await postgres.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")
        with pytest.raises(StoreUnavailable, match="password authentication failed"):
            for _ in range(3):
                await store.ping()
        file.write_text("second\n")
        await _back(store)
        await store.close()
    finally:
        await postgres.execute(f"DROP SCHEMA {ground.schema} CASCADE", "DROP ROLE rotated")


async def test_a_commit_is_on_disk_whatever_the_role_is_told(ground: Ground, postgres: Postgres) -> None:
    """A role for which the server need not wait for the disk is made to wait for it."""
    await postgres.execute("CREATE ROLE hasty LOGIN SUPERUSER PASSWORD 'hasty'")
    try:
        await postgres.execute("ALTER ROLE hasty SET synchronous_commit = off")
        store = await ground.replica(url=postgres.url(user="hasty", password="hasty"))
        (row,) = await store._read(lambda session: session.all("SHOW synchronous_commit"))
        assert row[0] == "on"
        await store.close()
    finally:
        await postgres.execute(f"DROP SCHEMA {ground.schema} CASCADE", "DROP ROLE hasty")


# what is kept --------------------------------------------------------------------------------------------------------


async def test_text_that_the_database_cannot_hold_stops_nothing(ground: Ground) -> None:
    """A NUL in a person's comment or a target's message is replaced, and the run moves on; the chain stays right."""
    bench = ground.bench(await ground.replica())
    claim = await bench.running()
    moved = claim.run.move(State.HELD, "odd", "said a\0b", now=0.0)
    await bench.store.save(moved, entry(moved, "run.held", message="said a\0b"))
    run = await bench.store.cancel(claim.run.id, "user:a\0nn", "no\0pe")
    assert (await bench.store.run(run.id)).message == "cancelled by user:a\ufffdnn: no\ufffdpe"
    answer = await bench.verified()
    assert answer.ok, answer.message


async def test_text_that_is_none_is_refused_alone(ground: Ground) -> None:
    """Half a character, which no database can keep, is one caller's error and not the store's."""
    bench = ground.bench(await ground.replica())
    with pytest.raises(StoreError, match="cannot keep") as error:
        await bench.store.rule_body("\ud800")
    assert not isinstance(error.value, StoreUnavailable)
    await bench.fires()


def test_no_query_reads_another_clock() -> None:
    """Every time the store decides by comes from one function, which only the schema's owner can replace."""
    other = re.compile(
        r"(?<!remediator_)\bnow\(\)|clock_timestamp|current_timestamp|localtime|statement_timestamp", re.IGNORECASE
    )
    stores = ROOT / "remediator" / "stores"
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in [*stores.glob("_postgres_*.py"), *stores.glob("migrations/postgres/*.sql")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if other.search(re.sub(r"(transaction|session|self|t|s)\.now\(\)|def now\(", "", line))
    ]
    assert len(found) == 1 and "AS 'SELECT extract(epoch FROM clock_timestamp())" in found[0], found


async def test_the_clock_is_that_of_the_database(ground: Ground) -> None:
    """The one function of time is the server's clock, in Unix seconds."""
    await ground.replica()
    rows = await ground.fetch("SELECT {s}.remediator_now() - extract(epoch FROM clock_timestamp())::double precision")
    assert abs(rows[0][0]) < 0.1


# the schema ----------------------------------------------------------------------------------------------------------


async def test_many_replicas_make_the_schema_once(ground: Ground) -> None:
    """Six replicas that start on an empty database at the same moment wait for each other."""
    stores = [ground.store() for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    rows = await ground.fetch("SELECT version, sha256 FROM {s}.migration ORDER BY version")
    assert [tuple(row) for row in rows] == [(m.version, m.sha256) for m in migrations("postgres")]
    await ground.bench(stores[5]).fires()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("INSERT INTO {s}.migration VALUES (99, 'later', 'x', 0)", "schema version 99, newer than this program knows"),
        ("UPDATE {s}.migration SET sha256 = 'x' WHERE version = 1", "migration 1 was applied in another form"),
    ],
)
async def test_a_schema_of_another_program_is_refused(ground: Ground, change: str, words: str) -> None:
    """A database that a newer program has changed, or that somebody edited, is left alone, with what to do."""
    await ground.replica()
    await ground.server.execute(change.replace("{s}", ground.schema))
    with pytest.raises(StoreError, match=words):
        await ground.replica()


async def test_a_database_that_cannot_hold_every_text_is_refused(ground: Ground, postgres: Postgres) -> None:
    """A database without UTF-8 is refused before anything is written to it."""
    await postgres.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="cannot hold every text"):
            await ground.replica(url=postgres.url("bytes"))
    finally:
        await postgres.execute("DROP DATABASE bytes")


# who may -------------------------------------------------------------------------------------------------------------

CHANGES = (
    "UPDATE audit SET actor = 'nobody'",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE sequence = 1",
    "TRUNCATE audit",
    "TRUNCATE audit CASCADE",
    "UPDATE audit_head SET sequence = 0",
    "DELETE FROM audit_head",
    "TRUNCATE audit_head",
)


async def _refused(url: str, schema: str, kind: type[Exception], *before: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        for statement in before:
            await connection.execute(statement)
        for change in CHANGES:
            with pytest.raises(kind):
                await connection.execute(change)
                raise AssertionError(f"{change} was carried out")
    finally:
        await connection.close()


async def _owned(ground: Ground, postgres: Postgres) -> Callable[[], PostgresStore]:
    """The schema is made by one role and used by another; the store of that other one."""
    await postgres.execute(f"CREATE SCHEMA {ground.schema} AUTHORIZATION owner")
    address = ground.store(url=postgres.url(user="owner", password="owner"))._address
    assert [m.version for m in await _postgres_migrate.migrate(address, grant_to="app")] == [
        m.version for m in migrations("postgres")
    ]
    return lambda: ground.store(url=postgres.url(user="app", password="app"))


async def test_nobody_changes_the_audit(ground: Ground, postgres: Postgres) -> None:
    """Neither a superuser nor a session that skips ordinary triggers can change or remove a record by mistake."""
    bench = ground.bench(await ground.replica())
    await bench.fires()
    await _refused(postgres.url(), ground.schema, asyncpg.RestrictViolationError)
    await _refused(
        postgres.url(), ground.schema, asyncpg.RestrictViolationError, "SET session_replication_role = replica"
    )
    assert (await bench.verified()).records == 2


async def test_the_service_has_no_right_to_change_the_audit(ground: Ground, postgres: Postgres) -> None:
    """A service whose role does not own the schema does all its work and may neither change the audit nor the clock."""
    store = (await _owned(ground, postgres))()
    await store.open()
    bench = ground.bench(store)
    await bench.acted("a", ref("rule-a"))
    await bench.fires("b", ref("rule-b"))
    await store.ping()
    await store.remember({"digest": "{}"})
    storm = GuardState(guard="storm", scope="global", open=True, since=T0, until=None, why="x", actor="y")
    await store.open_guard(storm)
    await store.close_guard("storm", "global", "user:ann", "looked")
    announcing = dataclasses.replace(bench.request(await bench.running("c")), announces=("A",), announces_for=60.0)
    assert isinstance(await store.licence(announcing), Licence)
    await store.prune(1.0, 10)
    app = postgres.url(user="app", password="app")
    kinds = asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError
    await _refused(app, ground.schema, kinds)  # type: ignore[arg-type]  # pytest.raises takes several kinds as well
    connection = await asyncpg.connect(app, server_settings={"search_path": ground.schema})
    try:
        for statement in (
            "CREATE OR REPLACE FUNCTION remediator_now() RETURNS double precision LANGUAGE sql AS 'SELECT 0.0::float8'",
            "ALTER TABLE audit DISABLE TRIGGER ALL",
            "DROP TABLE audit",
            "INSERT INTO migration VALUES (99, 'x', 'x', 0)",
            "INSERT INTO audit_segment VALUES (1, 1, 'x', 0, 0)",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
                raise AssertionError(f"{statement} was carried out")
    finally:
        await connection.close()
    assert (await bench.verified()).ok


async def test_a_service_that_may_not_migrate_says_who_must(ground: Ground, postgres: Postgres) -> None:
    """With a role that does not own the schema an old one is not half changed: a sentence says what to run."""
    store = (await _owned(ground, postgres))()
    last = migrations("postgres")[-1]
    await ground.fetch(f"DELETE FROM {{s}}.migration WHERE version = {last.version}")
    with pytest.raises(StoreError, match=rf"lacks migration {last.version} \({last.name}\).*run `remediator migrate`"):
        await store.open()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.ping()
