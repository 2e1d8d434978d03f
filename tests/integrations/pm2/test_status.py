"""Tests of the probe pm2.status, with a real pm2 daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.pm2.status import Status
from tests.integrations.pm2.daemon import daemon
from tests.integrations.support import looking


async def test_the_evidence_is_what_pm2_knows_without_environments() -> None:
    """Counts, states and lives come back; the environment that pm2 lists with them, secrets and all, never does."""
    it = daemon()
    name = it.new(DATABASE_PASSWORD="canary-password")
    assert "canary-password" in it.pm2("jlist")
    evidence = await Status(process=name).read(it.target(), looking())
    assert (evidence["count"], evidence["online"], evidence["stopped"], evidence["errored"]) == (1, 1, 0, 0)
    (instance,) = evidence["instances"]
    assert instance["pid"] == it.list(name)[0]["pid"]
    assert instance["status"] == "online"
    assert 1_600_000_000 < instance["started_at"] < 4_000_000_000
    assert "canary" not in json.dumps(evidence)
    it.pm2("delete", name)


async def test_a_stopped_process_and_one_that_is_not_there() -> None:
    """Stopped is counted; unknown is an error and never zero instances."""
    it = daemon()
    with it.process(stopped=True) as name:
        assert (await Status(process=name).read(it.target(), looking()))["stopped"] == 1
    with pytest.raises(PermanentError, match="no process named") as caught:
        await Status(process="nobody").read(it.target(), looking())
    assert caught.value.reason == "not_found"
    assert Status(process="all").needs() == {"processes": "*"}


@pytest.mark.parametrize("says", ["echo canary", "echo '[{\"name\": \"canary\"}]'", "echo canary; exit 1"])
async def test_a_list_that_makes_no_sense_is_not_repeated(says: str, tmp_path: Path) -> None:
    """Whatever pm2 prints instead of its list may hold secrets: the message says only that it is no list."""
    (tmp_path / "pm2").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "pm2").chmod(0o755)
    with pytest.raises(TemporaryError) as caught:
        await Status(process="worker").read(daemon().target(program=str(tmp_path / "pm2")), looking())
    assert "canary" not in str(caught.value)
