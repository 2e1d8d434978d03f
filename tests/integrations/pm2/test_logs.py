"""Tests of the probe pm2.logs, with a real pm2 daemon."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.pm2.logs import Logs
from tests.integrations.pm2.daemon import daemon
from tests.integrations.support import looking


async def test_matching_lines_are_counted_and_bounded() -> None:
    """Of both log files the last lines are looked at; all matches are counted and the last fifty are kept."""
    it = daemon()
    with it.process() as name:
        entry = it.list(name)[0]["pm2_env"]
        with open(entry["pm_out_log_path"], "a") as out, open(entry["pm_err_log_path"], "a") as error:
            out.writelines(f"uniqueness check {number} failed\nfine {number}\n" for number in range(100))
            error.write("uniqueness: " + "x" * 1000 + "\n")
        evidence = await Logs(process=name, lines=200, pattern="(?i)uniqueness").read(it.target(), looking())
        assert evidence["files"] == 2
        assert evidence["matches"] == 101
        assert len(evidence["lines"]) == 50
        assert all(len(line) <= 500 for line in evidence["lines"])
        everything = await Logs(process=name, lines=10).read(it.target(), looking())
        assert everything["seen"] == everything["matches"] == 11
        assert everything["lines"][-1] == "fine 99" or everything["lines"][-1].startswith("uniqueness: xxx")


async def test_a_log_that_is_gone_is_empty_and_a_process_that_is_gone_is_an_error() -> None:
    """A removed file is no lines; an unknown process is unknown."""
    it = daemon()
    name = it.new()
    for path in (it.home / "logs").glob(f"{name}-*"):
        path.unlink()
    assert (await Logs(process=name).read(it.target(), looking()))["lines"] == []
    it.pm2("delete", name)
    with pytest.raises(PermanentError, match="no process named"):
        await Logs(process="nobody").read(it.target(), looking())


def test_a_pattern_is_checked_when_the_rules_are_read() -> None:
    """RE2 only, and never from a label."""
    with pytest.raises(ValidationError, match="not valid RE2"):
        Logs(process="worker", pattern="(a")
    with pytest.raises(ValidationError, match="not valid RE2"):
        Logs(process="worker", pattern="(?=a)")
    assert "pattern" in Logs.literal
