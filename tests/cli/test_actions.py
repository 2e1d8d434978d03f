"""``remediator actions`` and ``remediator guards``: the catalogue, for people and programs."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner, Result

from remediator.catalogue import Catalogue
from remediator.cli import main


def run(*arguments: str) -> Result:
    """The command."""
    return CliRunner().invoke(main, list(arguments))


def test_lists_actions_with_their_effect() -> None:
    """The table has one line per action or composite with its effect class and what it does."""
    done = run("actions")
    assert done.exit_code == 0
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["NAME", "EFFECT", "DESCRIPTION"]
    known = [*Catalogue().names("actions"), *Catalogue().names("composites")]
    assert [line.split()[0] for line in lines] == sorted(known)
    assert next(line for line in lines if line.startswith("http.post")).split()[1] == "once"
    assert next(line for line in lines if line.startswith("rpc.switch")).split()[1] == "composite"


def test_programs_get_the_documented_fields() -> None:
    """``actions -o json`` has name, effect, integration, description and parameters, as the contract says."""
    entries = json.loads(run("actions", "-o", "json").stdout)
    assert all({"name", "effect", "integration", "description", "parameters"} == set(entry) for entry in entries)
    assert yaml.safe_load(run("actions", "-o", "yaml").stdout) == entries


def test_lists_probes_and_guards() -> None:
    """Probes and guards are listed in the same ways."""
    assert run("actions", "--probes", "-o", "name").stdout.split() == list(Catalogue().names("probes"))
    assert run("guards", "-o", "name").stdout.split() == list(Catalogue().names("guards"))
    assert "for (required): How long" in run("guards", "cooldown", "-o", "wide").stdout


@pytest.mark.parametrize("command", ["actions", "guards"])
def test_a_name_that_does_not_exist_exits_1(command: str) -> None:
    """Asking for something that is not there is a no, on standard error."""
    done = run(command, "nope.nope")
    assert (done.exit_code, done.stdout) == (1, "")
    assert 'nothing is named "nope.nope"' in done.stderr
