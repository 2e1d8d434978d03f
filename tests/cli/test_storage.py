"""Proves that schemas are told and brought up to date, and that a store is moved, from the command line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from remediator.audit import Entry
from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.stores.migrations import migrations
from remediator.stores.sqlite import SqliteStore
from tests.cli.conftest import Cli
from tests.postgres import Postgres, postgres

__all__ = ["postgres"]

LATEST = len(migrations("sqlite"))


def _old(path: Path) -> None:
    """A file of the first version of the schema."""
    first = migrations("sqlite")[0]
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL,"
        f" applied_at REAL NOT NULL); {first.sql}"
    )
    connection.execute("INSERT INTO migration VALUES (1, 'first', ?, 1700000000.0)", (first.sha256,))
    connection.commit()
    connection.close()


async def _store(path: Path, records: int) -> SqliteStore:
    clock = SystemClock()
    store = SqliteStore(str(path), clock=clock, ids=SystemIds(clock))
    await store.open()
    await store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(records)))
    return store


async def test_a_schema_is_told_and_brought_up_to_date(cli: Cli, tmp_path: Path) -> None:
    """The status changes nothing; migrating applies what is missing, once; and both say what there is."""
    _old(tmp_path / "store.db")
    url = "--storage.url=sqlite:store.db"
    told = [line.split() for line in (await cli("migrate", "--status", url)).out.splitlines()]
    assert told[0] == ["0001", "first", "2023-11-14T22:13:20.000000Z"]
    assert [line[2] for line in told[1:]] == ["pending"] * (LATEST - 1)
    said = await cli("migrate", url)
    assert (said.code, len(said.out.splitlines())) == (0, LATEST - 1)
    assert "pending" not in (await cli("migrate", "--status", url)).out
    assert (await cli("migrate", url)).out == "up to date: nothing was to be done\n"
    found = json.loads((await cli("migrate", "--status", url, "-o", "json")).out)
    assert [one["version"] for one in found] == list(range(1, LATEST + 1))
    assert all(one["applied_at"] for one in found)


async def test_the_status_of_nothing_makes_nothing(cli: Cli, tmp_path: Path) -> None:
    """Asking about a file that is not there tells that everything is pending, and leaves no file."""
    said = await cli("migrate", "--status", "--storage.url=sqlite:none.db")
    assert (said.code, said.out.count("pending")) == (0, LATEST)
    assert not list(tmp_path.glob("none*"))


async def test_the_store_of_the_settings_is_migrated(cli: Cli, tmp_path: Path, postgres: Postgres) -> None:
    """The settings of the service say which store is meant, be it a file or a schema of a server."""
    (tmp_path / "remediator.yaml").write_text("storage: {url: 'sqlite:of-settings.db'}\n")
    assert (await cli("migrate", "--config.file=remediator.yaml")).code == 0
    assert (tmp_path / "of-settings.db").is_file()
    (tmp_path / "password").write_text("for tests on loopback\n")
    (tmp_path / "remediator.yaml").write_text(
        f"storage: {{url: '{postgres.url(password='')}', password_file: password, schema: of_settings}}\n"
    )
    said = await cli("migrate", "--config.file=remediator.yaml")
    assert said.code == 0, said.err
    assert len(await postgres.fetch("SELECT 1 FROM of_settings.audit_head")) == 1
    await postgres.execute("DROP SCHEMA of_settings CASCADE")


@pytest.mark.parametrize("flags", [(), ("--status",)])
async def test_a_newer_schema_is_refused(cli: Cli, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A store of a newer program is status 1 with the sentence that says what to install."""
    await (await _store(tmp_path / "store.db", 1)).close()
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("INSERT INTO migration VALUES (9999, 'later', 'x', 0)")
    connection.commit()
    connection.close()
    said = await cli("migrate", *flags, "--storage.url=sqlite:store.db")
    assert said.code == 1
    assert "schema version 9999, newer than this program knows" in said.err


async def test_a_service_that_must_not_migrate_does_not(cli: Cli, tmp_path: Path) -> None:
    """With storage.migrate false an old schema stays as it is, and the start is refused with what to run."""
    _old(tmp_path / "store.db")
    (tmp_path / "one.yaml").write_text("storage: {url: 'sqlite:store.db', migrate: false}\n")
    (tmp_path / "two.yaml").write_text("storage: {url: 'sqlite:store.db'}\n")
    for flags in (("--config.file=one.yaml",), ("--config.file=two.yaml", "--storage.migrate=false")):
        said = await cli("serve", *flags, "--web.listen-address=127.0.0.1:0")
        assert said.code == 1
        assert "lacks migration 2 (retention); run `remediator migrate`" in said.err
    assert "pending" in (await cli("migrate", "--status", "--storage.url=sqlite:store.db")).out


async def test_a_store_is_moved(cli: Cli, tmp_path: Path) -> None:
    """Every table is told with its rows, and the chain that arrived; an anchor of the source fits the destination."""
    await (await _store(tmp_path / "one.db", 1200)).close()
    kept = tmp_path / "anchor.json"
    kept.write_text((await cli("audit", "verify", "--storage.url=sqlite:one.db", "-o", "json")).out)
    said = await cli("storage", "copy", "sqlite:one.db", "sqlite:two.db")
    assert said.code == 0, said.err
    assert not said.err
    assert said.out.splitlines()[-3].split() == ["audit", "1200"]
    assert said.out.splitlines()[-2] == "1200 records, the chain is whole"
    found = await cli("audit", "verify", "--storage.url=sqlite:two.db", f"--anchor={kept}")
    assert found.out.startswith("ok: 1201 records, the chain is whole, and fits the anchor of 1200")


async def test_a_store_is_moved_to_a_server(cli: Cli, tmp_path: Path, postgres: Postgres) -> None:
    """The address has no password: it comes from a file; the schema of the server is made and then told."""
    await (await _store(tmp_path / "one.db", 20)).close()
    secret = tmp_path / "password"
    secret.write_text("for tests on loopback\n")
    url = postgres.url(password="")
    there = ("--storage.schema=by_command", f"--storage.password-file={secret}")
    said = await cli("storage", "copy", "sqlite:one.db", url, *there)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-2] == "20 records, the chain is whole"
    assert "pending" not in (await cli("migrate", "--status", f"--storage.url={url}", *there)).out
    assert (await cli("migrate", f"--storage.url={url}", *there)).out.startswith("up to date")
    again = await cli("storage", "copy", "sqlite:one.db", url, *there)
    assert again.code == 1
    assert "is not empty (it has rows in audit)" in again.err
    await postgres.execute("DROP SCHEMA by_command CASCADE")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("migrate",), 2, "either --storage.url or --config.file"),
        (("migrate", "--storage.url=mysql://x"), 1, "sqlite:///path/to/remediator.db or postgresql://user@host"),
        (("migrate", "--storage.url=sqlite:a.db", "--grant-to=app"), 2, "--grant-to is for PostgreSQL"),
        (("migrate", "--status", "--storage.url=sqlite:no.db"), 1, "no.db: not readable as a store"),
        (("migrate", "--storage.url=sqlite:no.db"), 1, "no.db: not readable as a store"),
        (("migrate", "--status", "--storage.url=postgresql://127.0.0.1:1/x"), 1, "PostgreSQL at 127.0.0.1:1/x"),
        (("storage", "copy", "sqlite:a.db", "sqlite:./a.db"), 2, "the same store"),
        (("storage", "copy", "sqlite:none.db", "sqlite:b.db"), 1, "none.db: there is no such file"),
        (("storage", "copy", "sqlite:none.db"), 2, "Missing argument 'DESTINATION'"),
    ],
)
async def test_what_cannot_be_done_is_said(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """A wrong address, a file that is no store and a wrong use each get their sentence and their status."""
    (tmp_path / "no.db").write_bytes(b"this is no database, only a file of some length")
    said = await cli(*arguments)
    assert (said.code, told in said.err) == (code, True), said.err
