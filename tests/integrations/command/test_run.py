"""Tests of the action command.run, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from remediator.action import Change, Effect, Happened, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._output import Output
from remediator.integrations._process import Interrupted, execute
from remediator.integrations.command.run import Run
from remediator.integrations.command.target import CommandTarget
from tests.integrations.support import HandClock, acting

SHOW = "import os,sys,json; print(json.dumps(dict(argv=sys.argv[1:], env=dict(os.environ), cwd=os.getcwd())))"


def _target(directory: Path, commands: dict[str, Any], **settings: Any) -> CommandTarget:
    return CommandTarget.model_validate({"directory": str(directory), "commands": commands, **settings})


def _script(code: str, **settings: Any) -> dict[str, Any]:
    return {"argv": ["/bin/sh", "-c", code.replace("{", "{{").replace("}", "}}")], **settings}


async def _run(target: CommandTarget, name: str, **parameters: Any) -> Outcome:
    action = Run(command=name, parameters=parameters)
    change = Change.from_json((await action.diff(target, acting())).as_json())
    return await action.apply(target, change, acting())


def _alive(pid: int) -> bool:
    """True if the process exists and is not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def _gone(pid: int, seconds: float = 5.0) -> bool:
    for _ in range(int(seconds / 0.02)):
        if not _alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def _read(path: Path, lines: int = 1) -> list[int]:
    """The process ids that a script wrote, once they are there."""
    for _ in range(500):
        if path.exists() and len(found := path.read_text().split()) >= lines:
            return [int(text) for text in found]
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} was not written")


async def test_the_command_is_the_one_that_was_shown(tmp_path: Path) -> None:
    """Arguments, directory and a clean environment are exactly what the settings say, and nothing is a shell."""
    target = _target(
        tmp_path,
        {"show": {"argv": [sys.executable, "-c", SHOW, "{queue}", "$HOME;id"], "parameters": {"queue": {}}}},
        environment={"TEAM": "minting"},
    )
    action = Run(command="show", parameters={"queue": "mint"})
    change = await action.diff(target, acting())
    assert change.after == {"argv": [sys.executable, "-c", SHOW, "mint", "$HOME;id"], "directory": str(tmp_path)}
    assert not change.empty
    outcome = await action.apply(target, change, acting())
    seen = json.loads(outcome.data["stdout"])
    assert seen["argv"] == ["mint", "$HOME;id"]
    assert seen["cwd"] == str(tmp_path)
    assert seen["env"] == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TEAM": "minting",
        "REMEDIATOR_RUN_ID": "run-1",
        "REMEDIATOR_STEP": "step0",
        "REMEDIATOR_ATTEMPT": "1",
        "REMEDIATOR_KEY": "run-1.step0",
    }


async def test_standard_input_is_empty_and_no_descriptor_is_inherited(tmp_path: Path) -> None:
    """A command finds nothing to read and no open file of Remediator."""
    target = _target(tmp_path, {"look": _script("readlink /proc/self/fd/0; cat; ls /proc/self/fd")})
    lines = (await _run(target, "look")).data["stdout"].split()
    assert lines[0] == "/dev/null"
    assert set(lines[1:]) <= {"0", "1", "2", "3"}


async def test_output_and_exit_code_are_kept(tmp_path: Path) -> None:
    """Both outputs are kept apart, and listed exit codes count as done."""
    target = _target(tmp_path, {"talk": _script("echo out; echo err >&2; exit 3", success_codes=[0, 3])})
    outcome = await _run(target, "talk")
    assert outcome.data == {"exit_code": 3, "stdout": "out\n", "stderr": "err\n"}


async def test_another_exit_code_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    """The command says that it failed: permanent, or temporary where the operator says so."""
    target = _target(
        tmp_path, {"fail": _script("echo no luck >&2; exit 4"), "busy": _script("exit 75", temporary_codes=[75])}
    )
    with pytest.raises(PermanentError, match="exited with 4: no luck") as caught:
        await _run(target, "fail")
    assert caught.value.reason == "exit_code"
    with pytest.raises(TemporaryError, match="exited with 75"):
        await _run(target, "busy")


@pytest.mark.parametrize("program", ["/nowhere/program", "no-such-program", "/etc/passwd", "/tmp"])
async def test_what_cannot_be_started_did_not_happen(tmp_path: Path, program: str) -> None:
    """A missing or not executable program is permanent and says why."""
    target = _target(tmp_path, {"x": {"argv": [program]}})
    with pytest.raises(PermanentError, match="was not started") as caught:
        await _run(target, "x")
    assert caught.value.reason == "spawn"


async def test_a_missing_directory_is_found_before_acting(tmp_path: Path) -> None:
    """The directory is looked at when the change is made, and again by the system when it is run."""
    target = _target(tmp_path / "none", {"x": {"argv": ["true"]}})
    action = Run(command="x")
    with pytest.raises(PermanentError, match="does not exist"):
        await action.diff(target, acting())
    change = Change(summary="", before={}, after={"argv": ["true"], "directory": target.directory})
    with pytest.raises(PermanentError, match="No such file"):
        await action.apply(target, change, acting())


async def test_unknown_commands_and_wrong_parameters_are_refused(tmp_path: Path) -> None:
    """The message names what there is, and which parameter is wrong."""
    target = _target(tmp_path, {"x": {"argv": ["true", "{a}"], "parameters": {"a": {}}}})
    with pytest.raises(PermanentError, match='no command "y"; it has x'):
        await Run(command="y").diff(target, acting())
    with pytest.raises(PermanentError, match='x: parameter "a" must match'):
        await Run(command="x", parameters={"a": "-rf"}).diff(target, acting())


async def test_a_command_that_is_killed_is_unknown(tmp_path: Path) -> None:
    """Killed from outside, the command may have done half its work: neither word of failure is used."""
    target = _target(tmp_path, {"die": _script("echo begun; kill -9 $$")})
    with pytest.raises(Interrupted, match=r"by signal 9.*begun"):
        await _run(target, "die")


async def test_the_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    """When the time is up the command and its children are ended and the outcome is unknown."""
    code = f"sleep 60 & echo $$ $! > {tmp_path}/pids; echo working; wait"
    target = _target(tmp_path, {"slow": _script(code, timeout="500ms")})
    with pytest.raises(Interrupted, match=r"not ended after 0\.5 s.*working"):
        await _run(target, "slow")
    for pid in await _read(tmp_path / "pids", 2):
        assert await _gone(pid)


async def test_who_ignores_the_friendly_signal_is_killed(tmp_path: Path) -> None:
    """SIGKILL follows SIGTERM after the grace, also for children that ignore it."""
    code = f"trap '' TERM; sleep 60 & echo $$ $! > {tmp_path}/pids; while true; do sleep 1; done"
    with pytest.raises(Interrupted):
        await execute(
            ["/bin/sh", "-c", code],
            directory="/",
            environment={"PATH": "/usr/bin:/bin"},
            seconds=0.3,
            limit=4096,
            secrets=[],
            grace=0.3,
        )
    for pid in await _read(tmp_path / "pids", 2):
        assert await _gone(pid)


async def test_what_is_left_of_the_group_is_ended(tmp_path: Path) -> None:
    """A background process cannot go on without a licence after the command has ended."""
    target = _target(tmp_path, {"bg": _script(f"sleep 60 & echo $! > {tmp_path}/pids")})
    assert (await _run(target, "bg")).data["exit_code"] == 0
    (pid,) = await _read(tmp_path / "pids")
    assert await _gone(pid)


async def test_what_leaves_the_group_holds_nothing_up(tmp_path: Path) -> None:
    """A daemon that makes a session of its own is left alone and does not keep the step waiting for its output."""
    target = _target(
        tmp_path, {"daemon": _script(f"setsid sh -c 'echo $$ > {tmp_path}/pids; sleep 60' & echo begun; sleep 0.2")}
    )
    outcome = await asyncio.wait_for(_run(target, "daemon"), 10)
    (pid,) = await _read(tmp_path / "pids")
    try:
        assert outcome.data["stdout"] == "begun\n"
        assert _alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_cancelling_ends_the_group(tmp_path: Path) -> None:
    """A step that is cancelled leaves no process behind."""
    target = _target(tmp_path, {"slow": _script(f"sleep 60 & echo $$ $! > {tmp_path}/pids; wait")})
    task = asyncio.ensure_future(_run(target, "slow"))
    pids = await _read(tmp_path / "pids", 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(_alive(pid) for pid in pids)


async def test_the_group_dies_with_the_service(tmp_path: Path) -> None:
    """When Remediator is killed outright, a restarted one cannot meet the command still running."""
    script = textwrap.dedent(
        f"""
        import asyncio
        from remediator.integrations._process import execute
        asyncio.run(execute(
            ["/bin/sh", "-c", "sleep 60 & echo $$ $! > {tmp_path}/pids; wait"],
            directory="/", environment={{"PATH": "/usr/bin:/bin"}}, seconds=60, limit=4096, secrets=[],
        ))
        """
    )
    service = subprocess.Popen([sys.executable, "-c", script])
    try:
        pids = await _read(tmp_path / "pids", 2)
        assert all(_alive(pid) for pid in pids)
    finally:
        service.send_signal(signal.SIGKILL)
        await asyncio.to_thread(service.wait)
    for pid in pids:
        assert await _gone(pid)


async def test_secrets_reach_the_command_and_no_record(tmp_path: Path) -> None:
    """Values from files, from the environment and of secret names are given, and redacted wherever they appear."""
    (tmp_path / "secret").write_text("canary-file\n")
    os.environ["TEST_CANARY"] = "canary-env"
    try:
        target = _target(
            tmp_path,
            {"leak": _script("echo $A $B $API_TOKEN $TEAM; echo $A >&2"), "fail": _script("echo $A >&2; exit 1")},
            environment={"B": "${env:TEST_CANARY}", "API_TOKEN": "canary-name", "TEAM": "minting"},
            environment_files={"A": str(tmp_path / "secret")},
        )
        outcome = await _run(target, "leak")
        with pytest.raises(PermanentError) as caught:
            await _run(target, "fail")
    finally:
        del os.environ["TEST_CANARY"]
    assert outcome.data["stdout"] == "[redacted] [redacted] [redacted] minting\n"
    assert "canary" not in f"{outcome}{caught.value}"
    with pytest.raises(PermanentError, match="TEST_CANARY is not set"):
        await _run(target, "leak")


def test_output_is_bounded_and_says_what_is_missing() -> None:
    """Beginning and end are kept, the middle is counted, memory does not grow."""
    output = Output(100, [])
    for number in range(10_000):
        output.add(b"%06d\n" % number)
    text = output.text()
    assert text.startswith("000000\n000001\n")
    assert text.endswith("009999\n")
    assert "69900 of 70000 bytes left out" in text
    assert len(text) < 200


@pytest.mark.parametrize("before", range(0, 130, 3))
def test_a_secret_on_the_edge_is_redacted_whole(before: int) -> None:
    """Wherever a secret falls relative to the cut, not a part of it is kept."""
    secret = "canary0123456789"
    for after in (0, 40, 300):
        output = Output(100, [secret])
        output.add(b"." * before + secret.encode() * 3 + b"." * after)
        text = output.text()
        assert not any(secret[i : i + 4] in text for i in range(len(secret) - 3))


async def test_endless_output_does_not_stop_the_command(tmp_path: Path) -> None:
    """A command that writes megabytes ends, and only the limit is kept."""
    target = _target(tmp_path, {"loud": _script("head -c 5000000 /dev/zero | tr '\\0' x; echo end")}, max_output="2KiB")
    stdout = (await _run(target, "loud")).data["stdout"]
    assert stdout.endswith("end\n")
    assert len(stdout) < 3000


async def test_the_effect_is_what_the_operator_declares(tmp_path: Path) -> None:
    """once unless declared otherwise, also for a command that is not there; nothing can be reconciled."""
    target = _target(tmp_path, {"a": {"argv": ["true"]}, "b": {"argv": ["true"], "effect": "idempotent"}})
    assert Run(command="a").effect_on(target) is Effect.ONCE
    assert Run(command="b").effect_on(target) is Effect.IDEMPOTENT
    assert Run(command="none").effect_on(target) is Effect.ONCE
    change = await Run(command="a").diff(target, acting())
    assert await Run(command="a").reconcile(target, change, acting()) is Happened.UNKNOWN


async def test_undo_is_the_operators_command_with_the_same_values(tmp_path: Path) -> None:
    """The inverse survives storage and passes on exactly the parameters that undo knows; without undo: none."""
    target = _target(
        tmp_path,
        {
            "pause": {"argv": ["true", "{q}", "{why}"], "parameters": {"q": {}, "why": {}}, "undo": "resume"},
            "resume": {"argv": ["true", "{q}"], "parameters": {"q": {}}},
        },
    )
    action = Run(command="pause", parameters={"q": "mint", "why": "slow"})
    change = Change.from_json((await action.diff(target, acting())).as_json())
    assert action.inverse(change) == Run(command="resume", parameters={"q": "mint"})
    resume = Run(command="resume", parameters={"q": "mint"})
    assert resume.inverse(await resume.diff(target, acting())) is None
    assert (action.reversible(target), resume.reversible(target)) == (True, False)


async def test_nothing_is_started_after_the_licence_ran_out(tmp_path: Path) -> None:
    """A licence that ran out starts no process."""
    target = _target(tmp_path, {"touch": {"argv": ["touch", "touched"]}})
    clock = HandClock()
    context = acting(clock)
    change = await Run(command="touch").diff(target, context)
    clock.at = context.deadline + 1
    with pytest.raises(TemporaryError, match="licence"):
        await Run(command="touch").apply(target, change, context)
    assert not (tmp_path / "touched").exists()


async def test_another_command_than_the_approved_one_is_refused(tmp_path: Path) -> None:
    """If the settings changed after the change was shown, nothing is run."""
    first = _target(tmp_path, {"x": {"argv": ["touch", "a"]}})
    second = _target(tmp_path, {"x": {"argv": ["touch", "b"]}})
    change = await Run(command="x").diff(first, acting())
    with pytest.raises(PermanentError, match="no longer"):
        await Run(command="x").apply(second, change, acting())
    assert list(tmp_path.iterdir()) == []


def _renewal(directory: Path) -> CommandTarget:
    """certbot in miniature: the dry run looks, the renewal writes, and the date tells."""
    return _target(
        directory,
        {
            "renew-dry-run": _script("test -e allowed || { echo the challenge failed >&2; exit 1; }"),
            "renew": _script(
                "echo new > certificate", precondition="renew-dry-run", done_if="is-fresh", effect="probe"
            ),
            "is-fresh": _script("test \"$(cat certificate)\" = new"),
        },
    )


async def test_trap_10_a_dry_run_renews_nothing(tmp_path: Path) -> None:
    """The dry run is only the condition of the renewal; alone it leaves the old certificate, which is no success."""
    (tmp_path / "certificate").write_text("old")
    target = _renewal(tmp_path)
    with pytest.raises(PermanentError, match="renew-dry-run says no: the challenge failed") as caught:
        await Run(command="renew").diff(target, acting())
    assert caught.value.reason == "precondition"
    (tmp_path / "allowed").touch()
    change = await Run(command="renew").diff(target, acting())
    assert not change.empty
    assert (tmp_path / "certificate").read_text() == "old"
    with pytest.raises(TemporaryError, match="is-fresh does not succeed yet"):
        await Run(command="renew").verify(target, change, acting())
    await Run(command="renew").apply(target, change, acting())
    await Run(command="renew").verify(target, change, acting())
    assert (await Run(command="renew").diff(target, acting())).empty


async def test_done_if_tells_what_a_crash_left_behind(tmp_path: Path) -> None:
    """With a command that can see the effect, the class is probe: no before, yes after, and nothing where it hangs."""
    (tmp_path / "certificate").write_text("old")
    (tmp_path / "allowed").touch()
    target, action = _renewal(tmp_path), Run(command="renew")
    assert action.effect_on(target) is Effect.PROBE
    change = await action.diff(target, acting())
    assert await action.reconcile(target, change, acting()) is Happened.NO
    await action.apply(target, change, acting())
    assert await action.reconcile(target, change, acting()) is Happened.YES
    hangs = _target(
        tmp_path,
        {
            "x": {"argv": ["true"], "done_if": "see", "effect": "probe"},
            "see": _script("sleep 60", timeout="100ms"),
            "y": {"argv": ["true"], "done_if": "busy", "effect": "probe"},
            "busy": _script("exit 75", temporary_codes=[75]),
        },
    )
    for name in ("x", "y"):
        with pytest.raises(TemporaryError):
            await Run(command=name).diff(hangs, acting())
        with pytest.raises(TemporaryError):
            await Run(command=name).reconcile(hangs, change, acting())


def test_what_a_command_names_must_be_there(tmp_path: Path) -> None:
    """A helper that does not exist, or wants more than its command has, is found when the settings are read."""
    for role in ("undo", "precondition", "done_if"):
        with pytest.raises(ValueError, match=f'commands.a.{role}: no command is named "b"'):
            _target(tmp_path, {"a": {"argv": ["true"], role: "b"}})
        with pytest.raises(ValueError, match="has parameters that"):
            wants = {"argv": ["x", "{q}"], "parameters": {"q": {}}}
            _target(tmp_path, {"a": {"argv": ["true"], role: "b"}, "b": wants})
    with pytest.raises(ValueError, match="effect: probe needs done_if"):
        _target(tmp_path, {"a": {"argv": ["true"], "effect": "probe"}})
