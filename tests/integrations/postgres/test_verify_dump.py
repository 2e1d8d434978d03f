"""Tests of the action postgres.verify_dump, against real files of the real pg_dump."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import Happened
from remediator.errors import PermanentError
from remediator.integrations.postgres.verify_dump import VerifyDump
from tests.integrations.corpus import PAYLOADS
from tests.integrations.postgres.servers import one_postgres, target_of
from tests.integrations.support import HandClock, acting
from tests.postgres import Postgres
from tests.servers import program


def _dump(server: Postgres, file: Path, *flags: str) -> Path:
    argv = [program("pg_dump"), *flags, "-f", str(file), server.url("payment")]
    subprocess.run(argv, check=True, timeout=30)
    return file


async def _check(directory: Path, clock: HandClock | None = None, **parameters: Any) -> Any:
    action = VerifyDump.model_validate({"dumps": "nightly", **parameters})
    target = target_of(one_postgres(), directory)
    return await action.apply(target, await action.diff(target, acting(clock)), acting(clock))


async def test_t9_a_text_dump_is_no_backup_that_can_be_checked(tmp_path: Path) -> None:
    """Trap T9: what `pg_dump > x.sql` writes is refused with what to use instead, and noted nowhere."""
    _dump(one_postgres(), tmp_path / "x.dump", "-Fp")
    with pytest.raises(PermanentError, match=r"postgres\.dump") as caught:
        await _check(tmp_path)
    assert caught.value.reason == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["x.dump"]


async def test_the_newest_one_is_checked_and_noted(tmp_path: Path) -> None:
    """Without a name the newest is meant; once it was good there is nothing to do until it changes."""
    server = one_postgres()
    old, new = _dump(server, tmp_path / "a.dump", "-Fc"), _dump(server, tmp_path / "b.dump", "-Fc")
    os.utime(old, (1, 1))
    outcome = await _check(tmp_path)
    assert outcome.data["file"] == "b.dump"
    assert outcome.data["tables"] >= 5
    target = target_of(server, tmp_path)
    action = VerifyDump(dumps="nightly")
    change = await action.diff(target, acting())
    assert change.empty
    assert await action.reconcile(target, change, acting()) is Happened.YES
    new.touch()
    assert not (await action.diff(target, acting())).empty


async def test_a_dump_whose_end_is_missing_is_damaged(tmp_path: Path) -> None:
    """The list is still good, as a check that only lists would say; reading to the end finds it."""
    server = one_postgres()
    subprocess.run(
        [program("psql"), "-q", server.url("payment")],
        input="INSERT INTO processed_events (processed_at) "
        "SELECT now() + i * interval '7s' FROM generate_series(1, 20000) i",
        text=True, check=True,
    )  # fmt: skip
    file = _dump(server, tmp_path / "x.dump", "-Fc")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 2000])
    listed = subprocess.run([program("pg_restore"), "--list", str(file)], capture_output=True, check=False)
    assert listed.returncode == 0
    with pytest.raises(PermanentError, match="damaged"):
        await _check(tmp_path)


async def test_empty_strange_small_and_old_ones(tmp_path: Path) -> None:
    """Each is refused by name."""
    server = one_postgres()
    (tmp_path / "x.dump").write_bytes(b"")
    with pytest.raises(PermanentError, match="fewer than 1"):
        await _check(tmp_path)
    (tmp_path / "x.dump").write_bytes(b"hello")
    with pytest.raises(PermanentError, match="cannot be read"):
        await _check(tmp_path)
    _dump(server, tmp_path / "x.dump", "-Fc")
    with pytest.raises(PermanentError, match="fewer than 1073741824"):
        await _check(tmp_path, min_size="1GiB")
    with pytest.raises(PermanentError, match="fewer than 1000"):
        await _check(tmp_path, min_tables=1000)
    with pytest.raises(PermanentError, match="1d old") as caught:
        await _check(tmp_path, HandClock(time.time() + 86400), max_age="1h")
    assert caught.value.reason == "old"
    await _check(tmp_path, HandClock(time.time() + 60), max_age="1h")


async def test_none_is_an_error(tmp_path: Path) -> None:
    """No backup at all is never taken for a good one, and a link to elsewhere is none."""
    with pytest.raises(PermanentError, match="holds no"):
        await _check(tmp_path)
    (tmp_path / "x.dump").symlink_to("/etc/passwd")
    named: tuple[dict[str, Any], ...] = ({}, {"file": "x.dump"}, {"file": "y.dump"})
    for parameters in named:
        with pytest.raises(PermanentError) as caught:
            await _check(tmp_path, **parameters)
        assert caught.value.reason == "missing"


def test_no_text_gets_past_a_file_name() -> None:
    """A file is a plain name in the folder, never a path or an option."""
    taken = 0
    for payload in PAYLOADS:
        try:
            VerifyDump(dumps="nightly", file=payload)
            taken += 1
            assert "/" not in payload
            assert not payload.startswith((".", "-"))
        except ValidationError:
            continue
    assert 0 < taken < 60
