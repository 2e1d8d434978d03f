"""Tests of the action postgres.dump, against a real server and real files."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from remediator.action import Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.postgres.dump import Dump
from remediator.integrations.postgres.verify_dump import VerifyDump
from tests.integrations.postgres.servers import client, one_postgres, sql, target_of
from tests.integrations.support import HandClock, acting
from tests.servers import free_port

DUMP = Dump(dumps="nightly")


async def test_t9_a_dump_can_be_listed_and_read_back(tmp_path: Path) -> None:
    """Trap T9: the dump is in the custom format, has its name only when its list was read, and is its owner's."""
    server = one_postgres()
    target = target_of(server, tmp_path, user="superuser")
    change = await DUMP.diff(target, acting())
    assert list(tmp_path.iterdir()) == []
    outcome = await DUMP.apply(target, change, acting())
    (file,) = tmp_path.iterdir()
    assert file.name == outcome.data["file"] == "nightly-run-1.step0.dump"
    assert file.read_bytes()[:5] == b"PGDMP"
    assert file.stat().st_mode & 0o777 == 0o600
    assert outcome.data["bytes"] == file.stat().st_size
    assert outcome.data["tables"] >= 5
    await VerifyDump(dumps="nightly", file=file.name).apply(
        target, await VerifyDump(dumps="nightly", file=file.name).diff(target, acting()), acting()
    )


async def test_without_space_nothing_is_begun(tmp_path: Path) -> None:
    """As much as the database takes must be free besides what has to stay free."""
    dumps = {"nightly": {"directory": str(tmp_path), "min_free": "900000GiB"}}
    with pytest.raises(TemporaryError, match="bytes free") as caught:
        await DUMP.diff(target_of(one_postgres(), dumps=dumps), acting())
    assert caught.value.reason == "disk_space"


async def test_a_dump_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Missing rights are permanent, a server that goes away is temporary, and neither leaves anything behind."""
    server = one_postgres()
    allowed = target_of(server, tmp_path, user="superuser")
    change = await DUMP.diff(allowed, acting())
    with pytest.raises(PermanentError, match="permission denied"):
        await DUMP.apply(target_of(server, tmp_path, user="nobody"), change, acting())
    with pytest.raises(TemporaryError, match="pg_dump failed"):
        await DUMP.apply(target_of(server, tmp_path, user="superuser", port=free_port()), change, acting())
    assert list(tmp_path.iterdir()) == []


async def test_a_dump_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    """A cancelled step ends pg_dump, and what it had written goes; afterwards it did not happen."""
    server = one_postgres()
    target = target_of(server, tmp_path, user="superuser")
    change = await DUMP.diff(target, acting())
    sql(server, "CREATE TABLE IF NOT EXISTS locked (id int)")
    async with client(server, "holder", user="superuser") as holder:
        await holder.execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(DUMP.apply(target, change, acting()))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if sql(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'") != "0":
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert list(tmp_path.iterdir()) == []
    assert await DUMP.reconcile(target, change, acting()) is Happened.NO


async def test_a_dump_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """After its time it is ended, and certainly there is no dump."""
    server = one_postgres()
    dumps = {"nightly": {"directory": str(tmp_path), "timeout": "300ms", "min_free": "1MiB"}}
    target = target_of(server, user="superuser", dumps=dumps)
    change = await DUMP.diff(target, acting())
    sql(server, "CREATE TABLE IF NOT EXISTS locked (id int)")
    async with client(server, "holder", user="superuser") as holder:
        await holder.execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TemporaryError, match="had not ended") as caught:
            await DUMP.apply(target, change, acting())
    assert "canary" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_what_a_crash_left_is_swept_up(tmp_path: Path) -> None:
    """Files of dumps that were interrupted long ago go with the next one; younger ones stay."""
    old, young = tmp_path / "nightly-old.partial", tmp_path / "nightly-young.partial"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    target = target_of(one_postgres(), tmp_path, user="superuser")
    context = acting(HandClock(time.time()))
    change = await DUMP.diff(target, context)
    await DUMP.apply(target, change, context)
    assert not old.exists()
    assert young.exists()
    assert await DUMP.reconcile(target, change, context) is Happened.YES
    assert (await DUMP.diff(target, context)).empty


async def test_only_where_the_settings_say(tmp_path: Path) -> None:
    """Unknown names and folders that are not there are refused."""
    with pytest.raises(PermanentError, match="it has nightly"):
        await Dump(dumps="other").diff(target_of(one_postgres(), tmp_path), acting())
    with pytest.raises(PermanentError, match="does not exist"):
        await DUMP.diff(target_of(one_postgres(), tmp_path / "missing"), acting())
