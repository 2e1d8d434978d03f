"""Tests of the action pm2.restart, with a real pm2 daemon."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._process import Interrupted
from remediator.integrations.pm2.restart import Restart
from tests import servers
from tests.integrations.pm2.daemon import PM2, daemon
from tests.integrations.sshd import SshServer
from tests.integrations.support import acting


async def _done(action: Restart, **settings: object) -> Change:
    target = daemon().target(**settings)
    change = Change.from_json((await action.diff(target, acting())).as_json())
    await action.apply(target, change, acting())
    return change


async def test_every_instance_gets_a_new_life_and_keeps_its_environment() -> None:
    """Each instance runs anew, once, and still with the environment it was started with, not Remediator's."""
    it = daemon()
    script = 'echo "queue=$QUEUE"; exec sleep 1000'
    (it.home / "app.sh").write_text(script)
    name = it.new(str(it.home / "app.sh"), "--interpreter", "/bin/sh", QUEUE="mint")
    it.pm2("scale", name, "2")
    before = {entry["pm_id"]: entry["pid"] for entry in it.list(name)}
    action = Restart(process=name)
    change = await _done(action)
    await action.verify(it.target(), change, acting())
    after = it.list(name)
    assert {entry["pm_id"] for entry in after} == set(before)
    assert all(entry["pid"] != before[entry["pm_id"]] for entry in after)
    assert [entry["pm2_env"]["restart_time"] for entry in after] == [1, 1]
    assert {entry["pm2_env"]["env"].get("QUEUE", entry["pm2_env"].get("QUEUE")) for entry in after} == {"mint"}
    it.pm2("delete", name)


async def test_what_somebody_stopped_stays_stopped() -> None:
    """A stopped instance is not raised by a restart, and a process that is stopped altogether is left alone."""
    it = daemon()
    with it.process() as name:
        it.pm2("scale", name, "2")
        first, second = (entry["pm_id"] for entry in it.list(name))
        it.pm2("stop", str(first))
        change = await _done(Restart(process=name))
        assert change.after["restarted"] == [str(second)]
        assert [entry["pm2_env"]["status"] for entry in it.list(name)] == ["stopped", "online"]
        it.pm2("stop", name)
        with pytest.raises(PermanentError, match="on purpose") as caught:
            await Restart(process=name).diff(it.target(), acting())
        assert caught.value.reason == "stopped"


async def test_a_life_that_is_not_the_shown_one_is_left_alone() -> None:
    """If the process has restarted by itself since it was looked at, that was help enough: looked at anew first."""
    it = daemon()
    with it.process() as name:
        action = Restart(process=name)
        change = await action.diff(it.target(), acting())
        it.pm2("restart", name)
        with pytest.raises(TemporaryError, match="started anew") as caught:
            await action.apply(it.target(), change, acting())
        assert caught.value.reason == "changed"
        again = await action.diff(it.target(), acting())
        assert again.digest == change.digest, "an approval outlives the crashes that it is about"


async def test_after_a_crash_the_lives_tell() -> None:
    """All old is no, all new is yes, and some of each is for a person."""
    it = daemon()
    with it.process() as name:
        it.pm2("scale", name, "2")
        action, target = Restart(process=name), it.target()
        change = Change.from_json((await action.diff(target, acting())).as_json())
        assert await action.reconcile(target, change, acting()) is Happened.NO
        it.pm2("restart", str(it.list(name)[0]["pm_id"]))
        assert await action.reconcile(target, change, acting()) is Happened.UNKNOWN
        with pytest.raises(TemporaryError, match="not online yet"):
            await action.verify(target, change, acting())
        it.pm2("restart", str(it.list(name)[1]["pm_id"]))
        assert await action.reconcile(target, change, acting()) is Happened.YES
        await action.verify(target, change, acting())


async def test_a_process_that_fails_at_once_is_no_success() -> None:
    """pm2 says that it restarted; what counts is that the instance stays up."""
    it = daemon()
    (it.home / "fails.sh").write_text(f"test -e {it.home}/broken && exit 1; exec sleep 1000")
    name = it.new(str(it.home / "fails.sh"), "--interpreter", "/bin/sh", "--max-restarts", "1")
    (it.home / "broken").touch()
    action = Restart(process=name)
    change = await _done(action)
    for _ in range(200):
        if it.list(name)[0]["pm2_env"]["status"] == "errored":
            break
    with pytest.raises(PermanentError, match="fails as soon as it starts"):
        await action.verify(it.target(), change, acting())
    it.pm2("delete", name)
    (it.home / "broken").unlink()


async def test_trap_22_restarting_everything_is_a_whole_system() -> None:
    """`all` needs `*` in the permissions, a person in every mode, and is never repeated on a guess."""
    it = daemon()
    everything, one = Restart(process="all"), Restart(process="worker")
    assert everything.needs() == {"processes": "*"}
    assert everything.needs_approval(it.target())
    assert not one.needs_approval(it.target())
    assert everything.effect_on(it.target()) is Effect.ONCE
    assert one.effect_on(it.target()) is Effect.PROBE
    assert everything.subject() == ""
    listed = it.target(permit={"actions": ["pm2.restart"], "processes": ["worker-*", "all", "a*"]})
    assert listed.refusal("pm2.restart", everything.needs())
    assert not it.target().refusal("pm2.restart", everything.needs())
    with it.process() as name, it.process() as other:
        change = await _done(everything)
        assert {name, other} <= set(change.before["running"].values())
        await everything.verify(it.target(), change, acting())


async def test_looking_never_starts_a_daemon(tmp_path: Path) -> None:
    """pm2's own command line would start one; where none runs, or only its leftovers, nothing is started."""
    for left in ("", "4194304\n", f"{os.getpid()}\n", "../1"):
        (tmp_path / "pm2.pid").write_text(left)
        with pytest.raises(TemporaryError, match="no pm2 daemon runs"):
            await Restart(process="worker").diff(daemon().target(home=str(tmp_path)), acting())
    assert [path.name for path in tmp_path.iterdir()] == ["pm2.pid"]


async def test_a_daemon_that_hangs_ends_in_time() -> None:
    """A frozen daemon: looking gives up after the time-out, and what acting did is unknown."""
    it = daemon()
    with it.process() as name:
        action, target = Restart(process=name), it.target(timeout="1s")
        servers.freeze(it.pid)
        started = time.monotonic()
        try:
            with pytest.raises(TemporaryError, match="gave no answer"):
                await action.diff(target, acting())
        finally:
            os.kill(it.pid, signal.SIGCONT)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("say", ["exit 1", "exec sleep 60"])
async def test_a_restart_that_does_not_end_well_is_unknown(say: str, tmp_path: Path) -> None:
    """pm2 may have restarted a part before it failed or hung: neither word of failure is used."""
    it = daemon()
    (tmp_path / "pm2").write_text(f'#!/bin/sh\n[ "$1" = jlist ] && exec {PM2} jlist\n{say}\n')
    (tmp_path / "pm2").chmod(0o755)
    with it.process() as name:
        with pytest.raises(Interrupted):
            await _done(Restart(process=name), program=str(tmp_path / "pm2"), timeout="3s")
        assert it.list(name)[0]["pm2_env"]["status"] == "online"


async def test_a_program_that_is_missing_did_nothing() -> None:
    """A wrong path to pm2 is permanent and says so; so is a name that nothing has."""
    with pytest.raises(PermanentError, match="was not started"):
        await Restart(process="worker").diff(daemon().target(program="/nowhere/pm2"), acting())
    with pytest.raises(PermanentError, match='no process named "nobody"'):
        await Restart(process="nobody").diff(daemon().target(), acting())


def test_names_are_names() -> None:
    """What pm2 would take for an option, a path or several words is refused."""
    for wrong in ("-f", "--all", "", "a b", "a/b", "a\n", "../x", "ü", "a" * 101):
        with pytest.raises(ValidationError):
            Restart(process=wrong)


async def test_on_another_machine_it_is_the_same() -> None:
    """Over SSH the daemon of that machine is looked at and told, as the user who owns it."""
    it, sshd = daemon(), SshServer()
    try:
        with it.process() as name:
            action, target = Restart(process=name), it.target(ssh=sshd.ssh())
            change = Change.from_json((await action.diff(target, acting())).as_json())
            await action.apply(target, change, acting())
            await action.verify(target, change, acting())
            assert it.list(name)[0]["pm2_env"]["restart_time"] >= 1
    finally:
        sshd.stop()
