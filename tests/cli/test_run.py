"""Proves that a person at a terminal sees what happened and what is asked, and that an answer is one on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys

import pytest
import yaml

from tests.cli.conftest import ROOT, Cli
from tests.web.people import called
from tests.web.site import DIGEST, Site, asked, delivery


async def test_runs_are_listed(ask: Cli, site: Site) -> None:
    """A table with a header, wide with more columns, names alone, JSON and YAML; filters narrow it."""
    run_id = await asked(site)
    table = (await ask("run", "list")).out.splitlines()
    assert table[0].split() == ["ID", "RULE", "STATE", "REASON", "UPDATED"]
    assert table[1].split()[:4] == [run_id, "minting-queue-backlog", "held", "approval"]
    assert "HighQueueDepth" in (await ask("run", "list", "-o", "wide")).out
    assert (await ask("run", "list", "-o", "name")).out == f"{run_id}\n"
    assert json.loads((await ask("run", "list", "-o", "json")).out)[0]["id"] == run_id
    assert yaml.safe_load((await ask("run", "list", "-o", "yaml", "--state", "held")).out)[0]["id"] == run_id
    assert (await ask("run", "list", "--state", "failed", "-o", "name")).out == ""
    assert (await ask("run", "list", "--rule", "other", "-o", "name")).out == ""


async def test_a_run_is_described(ask: Cli, site: Site) -> None:
    """The alert, the evidence, the guards, the step and the question with its digest are on one page."""
    run_id = await asked(site)
    said = await ask("run", "get", "@latest")
    for text in (run_id, "held (approval)", "HighQueueDepth", '{"status": 200}', "approval: hold", "grow", DIGEST):
        assert text in said.out
    assert '{"workers": 5}' in said.out
    assert json.loads((await ask("run", "get", run_id, "-o", "json")).out)["approval"]["digest"] == DIGEST


async def test_an_unknown_run_is_status_1(ask: Cli) -> None:
    """The sentence of the server is shown."""
    said = await ask("run", "get", "nobody")
    assert (said.code, said.err) == (1, 'Error: there is no run "nobody"\n')


async def test_labels_cannot_write_to_the_terminal(ask: Cli, site: Site) -> None:
    """Escape sequences in a label are shown, not obeyed."""
    await site.post("/api/v1/alertmanager", json=delivery(("HighQueueDepth", {"x": "\x1b[2J\x1b]0;pwned\x07"})))
    for arguments in (("run", "list", "-o", "wide"), ("run", "get", "@latest")):
        out = (await ask(*arguments)).out
        assert "\x1b" not in out
        assert "\\x1b[2J" in out


async def test_without_a_terminal_approving_must_say_what_is_meant(ask: Cli, site: Site) -> None:
    """A script that pipes into approve changes nothing, and is told about --digest and --yes."""
    run_id = await asked(site)
    said = await ask("run", "approve", run_id, given=b"y\n")
    assert said.code == 2
    assert "--digest" in said.err
    assert await _state(site, run_id) == "pending"


async def _state(site: Site, run_id: str) -> str:
    approval = await site.service.store.approval(run_id)
    assert approval is not None
    return approval.state


async def test_approving_with_the_digest(ask: Cli, site: Site) -> None:
    """The digest that was shown approves; another one shows what is asked now and approves nothing."""
    run_id = await asked(site)
    said = await ask("run", "approve", run_id, "--digest", "b" * 64)
    assert said.code == 1
    assert f"now asks about other changes; their digest is {DIGEST}" in said.err
    assert '{"workers": 5}' in said.out
    assert await _state(site, run_id) == "pending"
    said = await ask("run", "approve", run_id, "--digest", DIGEST, "--comment", "fine")
    assert (said.code, said.out) == (0, f"run {run_id}: granted, 1 of 1 yes\n")
    said = await ask("run", "approve", run_id, "--digest", DIGEST)
    assert said.code == 1
    assert "waits for no approval" in said.err


async def test_approving_whatever_is_asked(ask: Cli, site: Site) -> None:
    """With --yes the changes are shown and approved without a question."""
    run_id = await asked(site)
    said = await ask("run", "approve", "@latest", "--yes")
    assert said.code == 0
    assert "5 workers instead of 2" in said.out
    assert await _state(site, run_id) == "granted"


@pytest.mark.parametrize(
    ("typed", "code", "state"), [(b"y\n", 0, "granted"), (b"n\n", 1, "pending"), (b"\n", 1, "pending")]
)
async def test_at_a_terminal_the_change_is_shown_and_asked(site: Site, typed: bytes, code: int, state: str) -> None:
    """Only a typed yes approves; no, and just Enter, leave the question open."""
    run_id = await asked(site)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "remediator", "run", "approve", run_id],
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "REMEDIATOR_URL": site.url, "XDG_CONFIG_HOME": "/nonexistent"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed)
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    os.close(ours)
    assert process.returncode == code, err
    assert b"5 workers instead of 2" in out
    assert b"Make these changes?" in err
    assert await _state(site, run_id) == state


async def test_rejecting_and_cancelling(ask: Cli, site: Site) -> None:
    """A no ends the run as denied; a run that has not begun is cancelled; neither works twice."""
    run_id = await asked(site)
    said = await ask("run", "reject", run_id, "--comment", "not today")
    assert (said.code, said.out) == (0, f"run {run_id}: rejected, denied\n")
    assert (await ask("run", "reject", run_id)).code == 1
    await site.post("/api/v1/alertmanager", json=delivery(("HighQueueDepth", {"n": "2"})))
    said = await ask("run", "cancel", "@latest", "--comment", "by hand")
    assert said.code == 0
    assert said.out.endswith(": cancelled\n")
    assert (await ask("run", "cancel", "@latest")).code == 1


async def test_trying_again(ask: Cli, site: Site) -> None:
    """What was rejected is tried again for a reason, and only then."""
    run_id = await asked(site)
    await ask("run", "reject", run_id)
    assert (await ask("run", "retry", run_id)).code == 2
    said = await ask("run", "retry", "@latest", "--reason", "the target is back")
    assert (said.code, said.out) == (0, f"run {run_id}: queued\n")
    said = await ask("run", "retry", run_id, "--reason", "again")
    assert said.code == 1 and "only failed, denied and expired runs" in said.err


async def test_a_person_takes_over(ask: Cli, site: Site) -> None:
    """Who was called stands under the run; one command ends the calling, and a second one says who has it."""
    run_id, _ = await called(site)
    said = (await ask("run", "get", run_id)).out
    for text in ("Escalation:", "oncall: held (escalating): next: lead", "on call: sent", "lead: waiting"):
        assert text in said
    assert (await ask("run", "acknowledge", "@latest", "--comment", "on it")).out == (
        "oncall: user:anonymous has taken over\n"
    )
    again = await ask("run", "acknowledge", run_id)
    assert (again.code, again.err) == (1, "Error: user:anonymous has taken over already\n")
