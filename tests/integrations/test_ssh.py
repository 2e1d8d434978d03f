"""Tests of running programs on another machine, with a real OpenSSH server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations import _host
from remediator.integrations._process import Ended, Interrupted
from remediator.integrations._ssh import SSH, guardian, program
from remediator.integrations._ssh_client import execute
from remediator.integrations.command.run import Run
from remediator.integrations.command.target import CommandTarget
from tests.integrations.corpus import PAYLOADS
from tests.integrations.sshd import SshServer
from tests.integrations.support import HandClock, acting
from tests.servers import free_port

SHOW = "import os,sys,json; print(json.dumps(dict(argv=sys.argv[1:], env=dict(os.environ), cwd=os.getcwd())))"


@pytest.fixture(scope="module")
def sshd() -> Iterator[SshServer]:
    """One server for this file."""
    server = SshServer()
    yield server
    server.stop()


async def _execute(ssh: SSH, *argv: str, seconds: float = 10.0, grace: float = 5.0) -> Ended:
    return await execute(
        ssh, argv, directory="/", environment={}, seconds=seconds, limit=65536, secrets=[], check=lambda: None,
        grace=grace,
    )  # fmt: skip


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def _pids(path: Path, count: int) -> list[int]:
    for _ in range(500):
        if path.exists() and len(found := path.read_text().split()) >= count:
            return [int(text) for text in found]
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} was not written")


async def _gone(pids: list[int], seconds: float = 5.0) -> bool:
    for _ in range(int(seconds / 0.02)):
        if not any(map(_alive, pids)):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_command_on_another_machine_is_the_one_that_was_shown(sshd: SshServer, tmp_path: Path) -> None:
    """Arguments, directory and a clean environment arrive over SSH exactly, and the approver sees the machine."""
    (tmp_path / "secret").write_text("canary-file")
    target = CommandTarget.model_validate(
        {
            "directory": str(tmp_path),
            "ssh": sshd.settings(),
            "commands": {"show": {"argv": [sys.executable, "-c", SHOW, "{q}", "$HOME;id\n'"], "parameters": {"q": {}}}},
            "environment": {"TEAM": "a 'b'\n$c"},
            "environment_files": {"TOKEN": str(tmp_path / "secret")},
        }
    )
    action = Run(command="show", parameters={"q": "mint"})
    change = await action.diff(target, acting())
    assert change.after["host"] == f"{sshd.user}@127.0.0.1:{sshd.port}"
    outcome = await action.apply(target, change, acting())
    assert '"TOKEN": "[redacted]"' in outcome.data["stdout"]
    seen = json.loads(outcome.data["stdout"])
    assert seen["argv"] == ["mint", "$HOME;id\n'"]
    assert seen["cwd"] == str(tmp_path)
    assert {name: value for name, value in seen["env"].items() if name not in ("PWD", "_", "LC_CTYPE")} == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TEAM": "a 'b'\n$c",
        "TOKEN": "[redacted]",
        "REMEDIATOR_RUN_ID": "run-1",
        "REMEDIATOR_STEP": "step0",
        "REMEDIATOR_ATTEMPT": "1",
        "REMEDIATOR_KEY": "run-1.step0",
    }


async def test_no_list_of_processes_shows_a_secret(sshd: SshServer) -> None:
    """What is sent as command line is constant text; arguments and environment travel on standard input."""
    assert guardian(5) == guardian(5)
    environment = {"TOKEN": "canary-environment"}
    look = 'for f in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$f"; done; echo $TOKEN'
    ended = await execute(
        sshd.ssh(), ["/bin/sh", "-c", look], directory="/", environment=environment, seconds=10, limit=2**22,
        secrets=[], check=lambda: None,
    )  # fmt: skip
    assert ended.stdout.endswith("canary-environment\n")
    assert ended.stdout.count("canary-environment") == 1


async def test_every_hostile_text_arrives_as_one_argument(sshd: SshServer) -> None:
    """The whole corpus goes through the shell of the other machine as data, byte for byte."""
    texts = [text for text in PAYLOADS if "\x00" not in text and text.isascii() and len(text) < 6000]
    ended = await execute(
        sshd.ssh(), [sys.executable, "-c", SHOW, *texts], directory="/", environment={}, seconds=20, limit=2**22,
        secrets=[], check=lambda: None,
    )  # fmt: skip
    assert json.loads(ended.stdout)["argv"] == texts
    unicode = [text for text in PAYLOADS if not text.isascii() and text.isprintable()]
    assert len(texts) + len(unicode) > 300
    shown = await _execute(sshd.ssh(), "printf", "%s\\037", *unicode)
    assert shown.stdout.split("\x1f")[:-1] == unicode


def test_a_program_is_lines_of_quoted_text() -> None:
    """However many lines a value has, the guardian is told how many to read, so that nothing is left for a shell."""
    text = program(["a", "b\nc; id"], "/x y", {"A": "1\n2"}).decode()
    assert text == "6\nexport A='1\n2'\ncd '/x y' || exit 126\nunset OLDPWD\nexec a 'b\nc; id'\n"


async def test_output_and_exit_code_come_back(sshd: SshServer) -> None:
    """Both outputs are kept apart, also megabytes of them, and the exit code is the program's own."""
    ended = await _execute(sshd.ssh(), "/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ended.code, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
    loud = await _execute(sshd.ssh(), "/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
    assert loud.stdout.endswith("end\n")
    assert len(loud.stdout) < 70_000
    assert (await _execute(sshd.ssh(), "no-such-program")).code == 127


@pytest.mark.parametrize("ignores", [False, True])
async def test_the_time_out_ends_the_whole_group(sshd: SshServer, tmp_path: Path, ignores: bool) -> None:
    """When the time is up the program and its children are ended on the other machine, politely and then for good."""
    trap = "trap '' TERM; " if ignores else ""
    code = f"{trap}sleep 60 & echo $$ $! > {tmp_path}/pids; echo working; while :; do sleep 1; done"
    started = time.monotonic()
    with pytest.raises(Interrupted, match=r"not ended after 0\.5 s.*working"):
        await _execute(sshd.ssh(), "/bin/sh", "-c", code, seconds=0.5, grace=0.5)
    assert time.monotonic() - started < 5
    assert await _gone(await _pids(tmp_path / "pids", 2))


async def test_what_is_left_of_the_group_is_ended(sshd: SshServer, tmp_path: Path) -> None:
    """A background process on the other machine cannot go on without a licence."""
    await _execute(sshd.ssh(), "/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pids")
    assert await _gone(await _pids(tmp_path / "pids", 1))


async def test_cancelling_ends_the_group(sshd: SshServer, tmp_path: Path) -> None:
    """A step that is cancelled leaves no process behind over there."""
    code = f"sleep 60 & echo $$ $! > {tmp_path}/pids; wait"
    task = asyncio.ensure_future(_execute(sshd.ssh(), "/bin/sh", "-c", code))
    pids = await _pids(tmp_path / "pids", 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _gone(pids)


async def test_the_group_dies_with_the_service(sshd: SshServer, tmp_path: Path) -> None:
    """When Remediator is killed outright its connection ends, and with it the program on the other machine."""
    script = textwrap.dedent(
        f"""
        import asyncio, json
        from remediator.integrations._ssh import SSH
        from remediator.integrations._ssh_client import execute
        asyncio.run(execute(
            SSH.model_validate(json.loads({json.dumps(json.dumps(sshd.settings()))})),
            ["/bin/sh", "-c", "sleep 60 & echo $$ $! > {tmp_path}/pids; wait"],
            directory="/", environment={{}}, seconds=60, limit=4096, secrets=[], check=lambda: None,
        ))
        """
    )
    service = subprocess.Popen([sys.executable, "-c", script])
    try:
        pids = await _pids(tmp_path / "pids", 2)
        assert all(map(_alive, pids))
    finally:
        service.send_signal(signal.SIGKILL)
        await asyncio.to_thread(service.wait)
    assert await _gone(pids)


@pytest.mark.parametrize("number", [9, 15])
async def test_a_program_that_is_killed_is_unknown(sshd: SshServer, number: int) -> None:
    """Killed from outside, it may have done half its work: neither word of failure is used."""
    with pytest.raises(Interrupted, match=r"killed.*begun"):
        await _execute(sshd.ssh(), "/bin/sh", "-c", f"echo begun; kill -{number} $$")


async def test_a_connection_that_breaks_in_the_middle_is_unknown(sshd: SshServer, tmp_path: Path) -> None:
    """The server's process for this connection dies while the program runs: what it did is not known."""
    code = f"echo $PPID > {tmp_path}/pids; sleep 60"
    task = asyncio.ensure_future(_execute(sshd.ssh(), "/bin/sh", "-c", code, grace=0.5))
    (guard,) = await _pids(tmp_path / "pids", 1)
    parent = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    with pytest.raises(Interrupted, match="was not seen"):
        await asyncio.wait_for(task, 10)


async def test_another_host_key_is_refused(sshd: SshServer) -> None:
    """A machine that is not the known one gets nothing, and an empty list of known ones knows nobody."""
    try:
        sshd.write_known("stranger")
        with pytest.raises(PermanentError, match="host key") as caught:
            await _execute(sshd.ssh(), "true")
        (sshd.directory / "known_hosts").write_text("")
        with pytest.raises(PermanentError, match="host key"):
            await _execute(sshd.ssh(), "true")
    finally:
        sshd.write_known("host")
    assert caught.value.reason == "host_key"


def test_known_hosts_are_required(sshd: SshServer) -> None:
    """There is no way to write settings that trust any host key, and metadata addresses are refused."""
    for missing in ("known_hosts_file", "key_file", "user"):
        settings = sshd.settings()
        del settings[missing]
        with pytest.raises(ValidationError):
            SSH.model_validate(settings)
    for wrong in ({"known_hosts_file": ""}, {"known_hosts_file": None}, {"host": "169.254.169.254"}, {"host": "-oX=y"}):
        with pytest.raises(ValidationError):
            sshd.ssh(**wrong)


async def test_a_key_that_is_not_accepted_is_permanent(sshd: SshServer) -> None:
    """Wrong credentials: nothing was started, and trying again will not help."""
    with pytest.raises(PermanentError, match="not accepted") as caught:
        await _execute(sshd.ssh(key_file=str(sshd.directory / "stranger")), "true")
    assert caught.value.reason == "permission"
    with pytest.raises(PermanentError, match="cannot be used") as caught:
        await _execute(sshd.ssh(key_file=str(sshd.directory / "sshd_config")), "true")
    assert "ListenAddress" not in str(caught.value)


async def test_no_connection_is_temporary(sshd: SshServer) -> None:
    """Nothing listens, or a file is just being replaced: nothing was started, and a later try may help."""
    with pytest.raises(TemporaryError, match="no connection"):
        await _execute(sshd.ssh(port=free_port()), "true")
    with pytest.raises(TemporaryError, match="cannot be read"):
        await _execute(sshd.ssh(known_hosts_file="/nowhere/known_hosts"), "true")


async def test_a_server_that_hangs_ends_in_time(sshd: SshServer) -> None:
    """A frozen server holds nobody for longer than the time to connect."""
    sshd.server.kill(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(TemporaryError, match="no answer in time"):
            await _execute(sshd.ssh(connect_timeout="500ms"), "true")
    finally:
        sshd.server.kill(signal.SIGCONT)
    assert time.monotonic() - started < 2.5


async def test_nothing_leaves_after_the_licence_ran_out(sshd: SshServer, tmp_path: Path) -> None:
    """The licence is looked at when the connection stands, right before the program leaves."""
    clock = HandClock()
    context = acting(clock)
    clock.at = context.deadline + 1
    with pytest.raises(TemporaryError, match="licence"):
        await _host.execute(
            sshd.ssh(), ["touch", str(tmp_path / "touched")], directory="/", environment={}, seconds=5, limit=4096,
            secrets=[], check=context.check_deadline,
        )  # fmt: skip
    assert not (tmp_path / "touched").exists()
    with pytest.raises(PermanentError, match="NUL"):
        await _host.execute(
            sshd.ssh(), ["touch", "a\x00b"], directory="/", environment={}, seconds=5, limit=4096, secrets=[]
        )
