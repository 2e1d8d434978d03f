"""Tests of the action systemd.restart, with a stand-in of systemctl."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted
from remediator.integrations.systemd.restart import Restart
from tests.integrations.sshd import SshServer
from tests.integrations.support import acting
from tests.integrations.systemd.manager import Manager

REDIS = Restart(unit="redis.service")


async def _diff(it: Manager) -> Change:
    return Change.from_json((await REDIS.diff(it.target(), acting())).as_json())


async def test_a_unit_is_restarted_once_and_seen_to_be_active(tmp_path: Path) -> None:
    """One call of systemctl, with the unit after the end of its options, and another invocation afterwards."""
    it = Manager(tmp_path)
    change = await _diff(it)
    await REDIS.apply(it.target(), change, acting())
    await REDIS.verify(it.target(), change, acting())
    assert [call for call in it.calls() if call[0] == "restart"] == [
        ["restart", "--no-ask-password", "--", "redis.service"]
    ]
    assert it.effects() == 1
    assert REDIS.inverse(change) is None


async def test_a_stopped_unit_is_left_alone_and_a_failed_one_is_not(tmp_path: Path) -> None:
    """Stopped is on purpose; failed is what a restart is for."""
    it = Manager(tmp_path)
    it.add("redis.service", active="inactive")
    with pytest.raises(PermanentError, match="on purpose"):
        await _diff(it)
    it.add("redis.service", active="failed")
    change = await _diff(it)
    assert change.before["active"] == "failed"
    await REDIS.apply(it.target(), change, acting())
    await REDIS.verify(it.target(), change, acting())


async def test_after_a_crash_the_invocation_tells(tmp_path: Path) -> None:
    """The same invocation is no, another one is yes, and one that has meanwhile stopped is for a person."""
    it = Manager(tmp_path)
    change = await _diff(it)
    assert REDIS.effect is Effect.PROBE
    assert await REDIS.reconcile(it.target(), change, acting()) is Happened.NO
    it.add("redis.service", active="inactive")
    assert await REDIS.reconcile(it.target(), change, acting()) is Happened.UNKNOWN
    it.add("redis.service", InvocationID="1" * 32)
    assert await REDIS.reconcile(it.target(), change, acting()) is Happened.YES


async def test_a_unit_that_started_anew_is_looked_at_again(tmp_path: Path) -> None:
    """systemd itself was quicker: nothing is restarted on an old look."""
    it = Manager(tmp_path)
    change = await _diff(it)
    it.add("redis.service", InvocationID="1" * 32)
    with pytest.raises(TemporaryError, match="started anew"):
        await REDIS.apply(it.target(), change, acting())
    assert it.effects() == 0


async def test_every_bad_end_has_its_word(tmp_path: Path) -> None:
    """Denied did not happen; failing and hanging may have, and the unit that fails is no success."""
    it = Manager(tmp_path)
    change = await _diff(it)
    it.behave(restart="denied")
    with pytest.raises(PermanentError, match="Access denied") as caught:
        await REDIS.apply(it.target(), change, acting())
    assert caught.value.reason == "permission"
    it.behave(restart="hang after")
    started = time.monotonic()
    with pytest.raises(Interrupted, match="not ended"):
        await REDIS.apply(it.target(timeout="1s"), change, acting())
    assert time.monotonic() - started < 3
    assert await REDIS.reconcile(it.target(), change, acting()) is Happened.YES
    again = await _diff(it)
    it.behave(start="fails")
    with pytest.raises(Interrupted, match="control process exited"):
        await REDIS.apply(it.target(), again, acting())
    with pytest.raises(PermanentError, match=r"fails when it starts \(exit-code\)"):
        await REDIS.verify(it.target(), again, acting())


async def test_on_another_machine_it_is_the_same(tmp_path: Path) -> None:
    """Over SSH, systemctl of that machine is told the same words."""
    it, sshd = Manager(tmp_path), SshServer()
    try:
        target = it.target(ssh=sshd.ssh())
        change = await REDIS.diff(target, acting())
        await REDIS.apply(target, change, acting())
        await REDIS.verify(target, change, acting())
    finally:
        sshd.stop()
    assert it.effects() == 1
