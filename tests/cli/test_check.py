"""``remediator check``: exit status and report, as scripts and code review rely on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from remediator.cli import main
from remediator.settings import load_settings

RULES = """\
rules:
  - name: backlog
    owner: team-minting
    service: minting
    mode: auto
    when: {alert: A}
    guards: [{cooldown: 10m}]
    steps: [{uses: http.post, target: api, with: {path: /x}}]
    verify: {until: alert.resolved, within: 10m}
"""
SETTINGS = """\
targets: {api: {kind: http, base_url: 'http://127.0.0.1:1', permit: {actions: [http.post], paths: [/x]}}}
services: {minting: {}}
"""


def run(folder: Path, *arguments: str, rules: str = RULES, settings: str = SETTINGS) -> Result:
    """The command, with ``rules`` and ``settings`` in ``folder``, as ``@rules`` and ``@settings``."""
    (folder / "rules.yaml").write_text(rules)
    (folder / "remediator.yaml").write_text(settings)
    places = {"@rules": str(folder / "rules.yaml"), "@settings": str(folder / "remediator.yaml")}
    return CliRunner().invoke(main, ["check", *(places.get(each, each) for each in arguments)])


def test_good_rules_and_settings_pass(tmp_path: Path) -> None:
    """Rules and settings without problems exit 0, print nothing to standard output, and say so on standard error."""
    done = run(tmp_path, "rules", "@rules", "--config.file", "@settings")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1 rule checked: no problems\n")
    done = run(tmp_path, "config", "@settings")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "settings checked: no problems\n")


def test_an_error_is_reported_and_exits_1(tmp_path: Path) -> None:
    """A broken rule exits 1 with the report of a compiler on standard output."""
    done = run(tmp_path, "rules", "@rules", rules=RULES.replace("cooldown", "cooldwn"))
    assert done.exit_code == 1
    assert done.stdout == (
        f'{tmp_path}/rules.yaml:7:15: error: no guard is named "cooldwn" [guard/unknown]\n'
        "    7 |     guards: [{cooldwn: 10m}]\n"
        "      |               ^\n"
        '  did you mean "cooldown"?\n'
    )
    assert done.stderr == "refused: 1 error\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), 0), (("--fail-on", "error"), 0), (("--fail-on", "warning"), 1), (("--fail-on", "info"), 1)],
)
def test_warnings_fail_only_if_asked(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """A warning is told in any case and decides the exit status only with --fail-on."""
    done = run(tmp_path, "rules", "@rules", *arguments, rules=RULES.replace("    verify:", "    max_age: 1h\n    #"))
    assert done.exit_code == code
    assert "[check/no_verify]" in done.stdout
    assert "1 rule checked: 1 warning" in done.stderr


def test_settings_make_the_check_stricter(tmp_path: Path) -> None:
    """With the settings, targets, permissions and services are checked as well; broken settings are reported too."""
    wrong = RULES.replace("path: /x", "path: /y").replace("service: minting", "service: mintin")
    assert run(tmp_path, "rules", "@rules", rules=wrong).exit_code == 0
    done = run(tmp_path, "rules", "@rules", "--config.file", "@settings", rules=wrong)
    assert done.exit_code == 1
    assert "[target/permit]" in done.stdout
    done = run(tmp_path, "rules", "@rules", "--config.file", "@settings", rules=RULES, settings="x: 1\n")
    assert done.exit_code == 1
    assert "remediator.yaml:1:1: error: unknown key" in done.stdout
    done = run(
        tmp_path, "rules", "@rules", "--config.file", "@settings", rules=RULES.replace("minting\n", "mintin\n", 2)
    )
    assert (done.exit_code, "[check/unknown_service]" in done.stdout) == (0, True)


@pytest.mark.parametrize("rules", ["", "rules: []\n"])
def test_no_rules_is_no_success(rules: str, tmp_path: Path) -> None:
    """A path that holds no rule at all is refused: the pipeline checked nothing, and has to say so."""
    done = run(tmp_path, "rules", "@rules", rules=rules)
    assert done.exit_code == 1
    assert "there is no rule here [file/empty]" in done.stdout


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A misspelt path exits 1, for rules and for settings."""
    for command in ("rules", "config"):
        done = run(tmp_path, command, str(tmp_path / "nope.yaml"))
        assert (done.exit_code, "nope.yaml: error: there is no such file" in done.stdout) == (1, True)


@pytest.mark.parametrize("output", ["json", "sarif"])
def test_machines_get_one_json_document(output: str, tmp_path: Path) -> None:
    """With -o json and -o sarif standard output is one JSON document, with problems and without."""
    for rules, count in ((RULES, 0), (RULES.replace("cooldown", "cooldwn"), 1)):
        done = run(tmp_path, "rules", "@rules", "-o", output, rules=rules)
        data = json.loads(done.stdout)
        assert len(data if output == "json" else data["runs"][0]["results"]) == count


def test_github_gets_annotations(tmp_path: Path) -> None:
    """With -o github each problem is one workflow command."""
    done = run(tmp_path, "rules", "@rules", "-o", "github", rules=RULES.replace("cooldown", "cooldwn"))
    assert done.stdout.startswith(f"::error file={tmp_path}/rules.yaml,line=7,col=15,title=guard/unknown::")


def test_a_wrong_option_is_wrong_usage(tmp_path: Path) -> None:
    """Wrong usage exits 2, so that a script can tell it from a wrong rule."""
    assert run(tmp_path, "rules", "@rules", "-o", "xml").exit_code == 2
    assert run(tmp_path, "rules", "@rules", "--nope").exit_code == 2


def test_the_example_of_the_reference_is_right(tmp_path: Path) -> None:
    """The rule and the settings that the reference pages show pass their own check."""
    docs = Path(__file__).resolve().parents[2] / "docs" / "reference"
    blocks = {page: (docs / f"{page}.md").read_text().split("```yaml\n") for page in ("rules", "settings")}
    rule = next(block.split("```")[0] for block in blocks["rules"] if block.startswith("rules:"))
    settings = next(block.split("```")[0] for block in blocks["settings"] if block.startswith("web:"))
    assert run(tmp_path, "rules", "@rules", "--fail-on=info", rules=rule).exit_code == 0
    done = run(tmp_path, "config", "@settings", settings=settings)
    assert (done.exit_code, "error" in done.stdout) == (0, False)


def test_every_default_of_the_reference_is_the_real_one() -> None:
    """The page of the settings names the defaults that the code has."""
    from remediator.catalogue import Catalogue
    from remediator.clock import format_duration

    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md").read_text()
    settings = load_settings(None, Catalogue())
    for key, value in {
        "web.listen_address": settings.web.listen_address,
        "storage.url": settings.storage.url,
        "intake.max_alerts": settings.intake.max_alerts,
        "intake.backlog": settings.intake.backlog,
        "intake.tolerance": format_duration(settings.intake.tolerance),
        "worker.concurrency": settings.worker.concurrency,
        "worker.lease": format_duration(settings.worker.lease),
        "worker.poll": format_duration(settings.worker.poll),
        "worker.grace": format_duration(settings.worker.grace),
        "approvals.expires": format_duration(settings.approvals.expires),
        "mode_max": settings.mode_max,
    }.items():
        assert f"| `{key}` | `{value}` |" in page, key
