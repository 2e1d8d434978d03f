"""Tests of the probe systemd.status, with a stand-in of systemctl."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.systemd.status import Status
from tests.integrations.support import looking
from tests.integrations.systemd.manager import Manager


async def test_the_evidence_is_what_systemctl_shows(tmp_path: Path) -> None:
    """The states come back by name, and systemctl is asked with the unit after the end of its options."""
    it = Manager(tmp_path)
    it.add("redis.service", NRestarts="3")
    evidence = await Status(unit="redis.service").read(it.target(), looking())
    assert evidence == {
        "active": "active", "sub": "running", "enabled": "enabled", "result": "success", "pid": 4711, "restarts": 3,
        "invocation": "0" * 32,
    }  # fmt: skip
    (call,) = it.calls()
    assert call[0] == "show"
    assert call[-2:] == ["--", "redis.service"]


async def test_a_unit_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """systemctl shows an unknown unit as inactive; that is no evidence of a stopped one."""
    it = Manager(tmp_path)
    it.add("masked.service", LoadState="masked")
    for unit, reason in (("nothing.service", "not_found"), ("masked.service", "masked")):
        with pytest.raises(PermanentError) as caught:
            await Status(unit=unit).read(it.target(), looking())
        assert caught.value.reason == reason


async def test_no_answer_is_temporary_and_denied_is_not(tmp_path: Path) -> None:
    """A manager that cannot be reached may be there later; one that refuses will refuse again; none may hang."""
    it = Manager(tmp_path)
    it.behave(show="bus")
    with pytest.raises(TemporaryError, match="Connection refused"):
        await Status(unit="redis.service").read(it.target(), looking())
    it.behave(show="denied")
    with pytest.raises(PermanentError, match="does not allow"):
        await Status(unit="redis.service").read(it.target(), looking())
    it.behave(show="hang")
    started = time.monotonic()
    with pytest.raises(TemporaryError, match="gave no answer"):
        await Status(unit="redis.service").read(it.target(timeout="500ms"), looking())
    assert time.monotonic() - started < 2.5
    with pytest.raises(TemporaryError, match="no unit"):
        await Status(unit="redis.service").read(it.target(command=["echo"]), looking())
    with pytest.raises(PermanentError, match="was not started"):
        await Status(unit="redis.service").read(it.target(command=["/nowhere/systemctl"]), looking())


def test_units_are_listed_by_their_full_names(tmp_path: Path) -> None:
    """A wildcard, an option or a name without its kind is refused in the settings and in rules."""
    it = Manager(tmp_path)
    for wrong in ("*", "redis*.service", "redis", "-H.service", "a b.service", "../a.service", "a.service\n"):
        with pytest.raises(ValidationError):
            it.target(permit={"actions": [], "units": [wrong]})
        with pytest.raises(ValidationError):
            Status(unit=wrong)

