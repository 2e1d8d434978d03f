"""Proves that the audit log can be read, verified and taken away, also without a server, and that tampering shows."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from remediator.audit import Entry
from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.stores.sqlite import SqliteStore
from tests.cli.conftest import Cli
from tests.web.site import Site, asked, doubted


async def test_the_newest_records_are_listed_in_order(ask: Cli, site: Site) -> None:
    """Like a log file: the newest at the end, at most as many as asked for, filtered by run and event."""
    run_id = await asked(site)
    table = (await ask("audit", "list", "--limit", "2")).out.splitlines()
    newest = len(await site.events())
    assert [row.split()[0] for row in table] == ["SEQUENCE", str(newest - 1), str(newest)]
    said = await ask("audit", "list", "--run", run_id, "--event", "approval.requested", "-o", "json")
    assert [record["event"] for record in json.loads(said.out)] == ["approval.requested"]


async def test_a_server_verifies_against_an_anchor(ask: Cli, site: Site, tmp_path: Path) -> None:
    """What was printed once is the anchor for later; a chain that does not fit it is status 1."""
    await asked(site)
    then = len(await site.events())
    said = await ask("audit", "verify", "-o", "json")
    assert said.code == 0
    kept = tmp_path / "anchor.json"
    kept.write_text(said.out)
    await site.service.store.append(Entry(event="x", actor="y"))
    said = await ask("audit", "verify", "--anchor", str(kept))
    assert said.code == 0
    assert said.out.startswith(f"ok: {then + 1} records, the chain is whole, and fits the anchor of {then}\n")
    kept.write_text(json.dumps({"records": then + 6, "head": "0" * 64}))
    said = await ask("audit", "verify", "--anchor", str(kept))
    assert said.code == 1
    assert f"BROKEN: the chain was cut: the anchor names {then + 6} records, 5 are missing at the end" in said.out


async def _database(path: Path, records: int = 5) -> SqliteStore:
    clock = SystemClock()
    store = SqliteStore(str(path), clock=clock, ids=SystemIds(clock))
    await store.open()
    await store.append(*(Entry(event="x", actor="y", detail={"n": n}) for n in range(records)))
    return store


async def test_a_database_is_verified_beside_the_service_that_has_it_open(cli: Cli, tmp_path: Path) -> None:
    """The file of a running service is read without stopping it and without a server, and so is a closed one."""
    path = tmp_path / "a b%.db"
    url = f"sqlite://{str(path).replace('%', '%25').replace(' ', '%20')}"
    store = await _database(path)
    try:
        said = await cli("audit", "verify", "--storage.url", url)
        assert (said.code, said.out.splitlines()[:2]) == (0, ["ok: 5 records, the chain is whole", "records 5"])
    finally:
        await store.close()
    assert (await cli("audit", "verify", "--storage.url", url)).code == 0


TAMPERED = {
    "changed": ("UPDATE audit SET body = replace(body, ':2', ':7') WHERE sequence = 3", "record 3 was changed"),
    "removed": ("DELETE FROM audit WHERE sequence = 3", "record 3 is missing"),
    "re-attributed": ("UPDATE audit SET actor = 'z' WHERE sequence = 3", "record 3 has columns that differ"),
    "swapped": (
        """UPDATE audit SET sequence = CASE sequence WHEN 2 THEN -3 ELSE -2 END WHERE sequence IN (2, 3);
        UPDATE audit SET sequence = -sequence WHERE sequence < 0""",
        "record 2 ",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_tampering_with_the_database_is_found(cli: Cli, tmp_path: Path, how: str) -> None:
    """A record that was changed, removed, re-attributed or moved is found by number, with status 1."""
    path = tmp_path / "audit.db"
    await (await _database(path)).close()
    statement, found = TAMPERED[how]
    connection = sqlite3.connect(path)
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.executescript(statement)
    connection.close()
    said = await cli("audit", "verify", "--storage.url", f"sqlite://{path}")
    assert said.code == 1
    assert said.out.startswith(f"BROKEN: {found}")


async def test_a_cut_end_is_found_by_the_anchor_alone(cli: Cli, tmp_path: Path) -> None:
    """Whoever deletes the newest records leaves a whole chain; only what was kept elsewhere shows that it is short."""
    path = tmp_path / "audit.db"
    await (await _database(path)).close()
    url = f"sqlite://{path}"
    kept = tmp_path / "anchor.json"
    kept.write_text((await cli("audit", "verify", "--storage.url", url, "-o", "json")).out)
    connection = sqlite3.connect(path)
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("DELETE FROM audit WHERE sequence > 3")
    connection.commit()
    connection.close()
    assert (await cli("audit", "verify", "--storage.url", url)).code == 0
    said = await cli("audit", "verify", "--storage.url", url, "--anchor", str(kept))
    assert said.code == 1
    assert "the chain was cut" in said.out


async def test_a_rewritten_chain_is_found_by_the_anchor_alone(cli: Cli, tmp_path: Path) -> None:
    """Whoever writes all records anew leaves a whole chain of the same length; its head is another one."""
    await (await _database(tmp_path / "a.db")).close()
    await (await _database(tmp_path / "b.db", 7)).close()
    kept = tmp_path / "anchor.json"
    kept.write_text((await cli("audit", "verify", "--storage.url", f"sqlite://{tmp_path}/a.db", "-o", "json")).out)
    said = await cli("audit", "verify", "--storage.url", f"sqlite://{tmp_path}/b.db", "--anchor", str(kept))
    assert said.code == 1
    assert "the chain was rewritten: record 5 is not the one that the anchor names" in said.out


async def test_an_export_is_verified_on_another_machine(ask: Cli, cli: Cli, site: Site, tmp_path: Path) -> None:
    """The exported file verifies without server and database, says who exported it, and shows a changed line."""
    await asked(site)
    said = await ask("audit", "export")
    file = tmp_path / "export.jsonl"
    file.write_text(said.out)
    assert (await cli("audit", "verify", str(file))).code == 0
    assert json.loads(said.out.splitlines()[-1])["event"] == "audit.exported"
    file.write_text(said.out.replace("minting-queue-backlog", "minting-queue-backlok", 1))
    found = await cli("audit", "verify", str(file))
    assert found.code == 1
    assert found.out.startswith("BROKEN: record ")
    rows = list(csv.DictReader(io.StringIO((await cli("audit", "export", str(file), "--format", "csv")).out)))
    assert [row["sequence"] for row in rows] == [str(n + 1) for n in range(len(await site.events()))]


async def test_a_database_is_exported_without_a_server(cli: Cli, tmp_path: Path) -> None:
    """The lines from a database file are the same as those from a server, and verify."""
    await (await _database(tmp_path / "a.db", 1200)).close()
    said = await cli("audit", "export", "--storage.url", f"sqlite://{tmp_path}/a.db")
    file = tmp_path / "export.jsonl"
    file.write_text(said.out)
    verified = await cli("audit", "verify", str(file), "-o", "json")
    assert json.loads(verified.out)["records"] == 1200


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("verify", "none.jsonl"), 1, "none.jsonl: cannot be read"),
        (("verify", "bad.jsonl"), 1, "bad.jsonl:2: not a record of an export"),
        (("verify", "odd.jsonl"), 1, "odd.jsonl:1: not a record of an export"),
        (("verify", "--storage.url", "sqlite:none.db"), 1, "none.db: there is no such file"),
        (("verify", "--storage.url", "sqlite:bad.jsonl"), 1, "bad.jsonl: not readable as a store of Remediator"),
        (("verify", "--storage.url", "mysql://x"), 1, "--storage.url: not a database address"),
        (("verify", "bad.jsonl", "--storage.url", "sqlite:x.db"), 2, "exclude each other"),
        (("verify", "bad.jsonl", "--anchor", "bad.jsonl"), 1, "an anchor is a JSON object"),
        (("verify", "bad.jsonl", "--anchor", "none.json"), 1, "none.json: cannot be read"),
        (("export", "bad.jsonl"), 1, "bad.jsonl:2: not a record of an export"),
    ],
)
async def test_what_is_no_audit_log_is_named(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """A missing or broken file, database or anchor is named with its place, and never taken for a whole chain."""
    (tmp_path / "bad.jsonl").write_text(
        '{"sequence":1,"at":1.0,"event":"","actor":"","run_id":"","rule":"","body":"","previous":"","digest":""}\n{\n'
    )
    (tmp_path / "odd.jsonl").write_text(
        '{"sequence":"1","at":1.0,"event":"","actor":"","run_id":"","rule":"","body":"","previous":"","digest":""}\n'
    )
    said = await cli("audit", *arguments)
    assert said.code == code
    assert told in said.err
    assert "ok:" not in said.out


async def test_the_command_says_what_is_trusted(ask: Cli, site: Site, tmp_path: Path) -> None:
    """A person accepts the loss from the command line and reads from where on the audit is trusted."""
    said = await ask("audit", "accept-loss", "--reason", "none yet")
    assert (said.code, said.err) == (1, "Error: there is no loss to accept: the audit fits its checkpoint\n")
    await doubted(site, tmp_path)
    said = await ask("audit", "accept-loss", "--reason", "backup of Monday")
    assert (said.code, said.out.splitlines()[0]) == (0, "accepted: the audit is trusted from its 3 records on")
