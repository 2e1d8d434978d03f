"""Tests of the probe compose.logs, with a real Docker Engine."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError
from remediator.integrations.compose.logs import Logs
from tests.integrations.compose.engine import Project, engine
from tests.integrations.support import HandClock, looking

SCRIPT = 'i=0; while [ $i -lt 60 ]; do echo "ERROR $i"; echo "fine $i" >&2; i=$((i+1)); done; printf "%01500d\\n" 1'


def _ended(project: Project, service: str) -> None:
    for _ in range(500):
        if project.inspect(service)["State"]["Status"] == "exited":
            return
        time.sleep(0.02)
    raise AssertionError("the container does not end")


@pytest.mark.parametrize("tty", [False, True])
async def test_matching_lines_are_counted_and_bounded(tty: bool) -> None:
    """Both outputs are read, with and without a terminal; matches are counted, the last fifty kept, long lines cut."""
    with engine().project({"worker": {"command": ["sh", "-c", SCRIPT], "tty": tty}}) as project:
        project.create("worker")
        _ended(project, "worker")
        target, now = project.target(), HandClock(time.time())
        evidence = await Logs(service="worker", lines=1000, pattern="^ERROR").read(target, looking(now))
        assert (evidence["seen"], evidence["matches"], len(evidence["lines"])) == (121, 60, 50)
        assert "ERROR 59" in evidence["lines"]
        everything = await Logs(service="worker", lines=5).read(target, looking(now))
        assert everything["seen"] == 5
        long = await Logs(service="worker", lines=1000, pattern="^0+1$").read(target, looking(now))
        assert [len(line) for line in long["lines"]] == [500]
        young = Logs.model_validate({"service": "worker", "since": "1m"})
        old = await young.read(target, looking(HandClock(time.time() + 3600)))
        assert old["seen"] == 0, "only lines that are young enough"
        with pytest.raises(PermanentError, match="no container of a service"):
            await Logs(service="nothing").read(target, looking(now))
        await target.close()


async def test_a_flood_of_output_is_read_in_bounds() -> None:
    """Megabytes in a few lines do not end up in memory or in the evidence."""
    script = "i=0; while [ $i -lt 40 ]; do printf '%0100000d\\n' $i; i=$((i+1)); done"
    with engine().project({"worker": {"command": ["sh", "-c", script]}}) as project:
        project.create("worker")
        _ended(project, "worker")
        target = project.target()
        evidence = await Logs(service="worker", lines=100).read(target, looking(HandClock(time.time())))
        assert 0 < evidence["seen"] < 10
        assert sum(map(len, evidence["lines"])) < 10_000
        await target.close()


def test_a_pattern_is_checked_when_the_rules_are_read() -> None:
    """RE2 only, and never from a label."""
    with pytest.raises(ValidationError, match="not valid RE2"):
        Logs(service="worker", pattern="(a")
    assert "pattern" in Logs.literal
