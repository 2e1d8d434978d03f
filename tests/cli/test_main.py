"""Proves what every command shares: exit statuses, quick help, completion, and what happens on a bug."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from remediator import __version__
from remediator.cli import COMMANDS, main
from remediator.errors import InputError
from tests.cli.conftest import Cli


async def test_help_lists_every_command(cli: Cli) -> None:
    """A person who knows nothing finds all commands with one line each, and exit status 0."""
    said = await cli("--help")
    assert said.code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in said.out
        assert text[:40] in said.out


def test_help_imports_no_heavy_library() -> None:
    """``--help`` and commands that only ask a server answer at once: they import neither aiohttp nor pydantic."""
    code = (
        "import sys\n"
        "import remediator.cli, remediator.cli.run, remediator.cli.rule, remediator.cli.pause, remediator.cli.audit\n"
        "print(sorted({'aiohttp', 'pydantic', 'kubernetes', 'sqlite3', 'structlog'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_under_its_name(name: str) -> None:
    """Each name in the help leads to a command of that name that explains itself."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "list", "--no-such"], ["pause"], ["--what"]])
async def test_wrong_usage_is_status_2(cli: Cli, arguments: list[str]) -> None:
    """A mistyped command, option or a missing one is told on standard error, and nothing is printed."""
    said = await cli(*arguments)
    assert said.code == 2
    assert "Usage:" in said.err
    assert said.out == ""


async def test_the_nearest_command_is_offered(cli: Cli) -> None:
    """A slip of the finger is answered with the command that was meant."""
    assert 'did you mean "resume"?' in (await cli("resum")).err


async def test_version(cli: Cli) -> None:
    """The version is told to people and to programs."""
    assert (await cli("version")).out.startswith(f"remediator {__version__} ")
    assert json.loads((await cli("version", "-o", "json")).out)["version"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_for_every_shell(cli: Cli, shell: str) -> None:
    """The script that the help names is printed for each shell, and the completion it asks for knows the commands."""
    assert "remediator" in (await cli(env={"_REMEDIATOR_COMPLETE": f"{shell}_source"})).out
    asked = {"_REMEDIATOR_COMPLETE": "bash_complete", "COMP_WORDS": "remediator re", "COMP_CWORD": "1"}
    assert "plain,resume" in (await cli(env=asked)).out


def test_a_bug_is_status_3_with_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mistake of ours is one line that names a report; the report has the traceback and no secret."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken(_data: object, _output: object) -> None:
        raise RuntimeError("Bearer abcdefgh12345678")

    monkeypatch.setattr("remediator.cli.version.print_data", broken)
    said = CliRunner().invoke(main, ["version", "-o", "json"])
    assert said.exit_code == 3
    (report,) = tmp_path.iterdir()
    assert str(report) in said.stderr
    assert said.stderr.count("\n") == 1
    text = report.read_text()
    assert "Traceback" in text
    assert "abcdefgh12345678" not in text + said.stderr
    assert report.stat().st_mode & 0o077 == 0


def test_wrong_input_is_status_1_with_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every error raised on purpose is its own sentence on standard error and status 1, without a traceback."""

    def refused(_data: object, _output: object) -> None:
        raise InputError("write it like this")

    monkeypatch.setattr("remediator.cli.version.print_data", refused)
    said = CliRunner().invoke(main, ["version", "-o", "json"])
    assert (said.exit_code, said.stderr) == (1, "Error: write it like this\n")
