"""Every example in YAML on every page is what the program really accepts: rules, parts of rules, settings, values."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from remediator.catalogue import Catalogue
from remediator.problem import Problem, ProblemsError, Severity
from remediator.rule import Rule
from remediator.rulebook import load_rulebook
from remediator.settings import load_settings
from tests.helm.chart import CHART

ROOT = Path(__file__).parent.parent.parent
RULE = {field.alias or name for name, field in Rule.model_fields.items()}
SETTINGS = {
    "approvals", "audit", "escalations", "guards", "intake", "mode_max", "redis", "services", "storage", "targets",
    "users", "web", "worker",
}  # fmt: skip
ELSEWHERE = {"target/unknown", "guard/probe", "settings/environment"}
"""What an example may leave to the page around it: targets, probes, the environment."""
HELM = "docs/how-to/install-with-helm.md"


def _examples() -> Iterator[tuple[str, str]]:
    """Each block of YAML by its page and number, at its left margin."""
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for number, block in enumerate(blocks, 1):
            yield f"{page.relative_to(ROOT)} {number}", textwrap.dedent(block)


def _kind(where: str, data: Any) -> str:
    if where.startswith(HELM):
        return "values" if isinstance(data, dict) and "kind" not in data else "other"
    if not isinstance(data, dict):
        return "other"
    if data.keys() == {"rules"}:
        return "rules"
    if data.keys() <= RULE and not ("guards" in data and "settings" in where):
        return "part"
    return "settings" if data.keys() <= SETTINGS else "other"


def _of(kind: str) -> dict[str, str]:
    return {where: text for where, text in _examples() if _kind(where, yaml.safe_load(text)) == kind}


def _whole(text: str) -> str:
    """A rule of which ``text`` is a part."""
    data = yaml.safe_load(text)
    missing = {"name": "example", "when": "{alert: Example}"}
    if not data.keys() & {"steps", "remedies"}:
        missing["steps"] = "[{wait: 5m}]"
    lines = [f"{key}: {value}" for key, value in missing.items() if key not in data]
    return "rules:\n  -\n" + textwrap.indent("\n".join([*lines, text]), "    ")


def _errors(problems: tuple[Problem, ...]) -> str:
    wrong = [each for each in problems if each.severity is Severity.ERROR and each.id not in ELSEWHERE]
    return "\n".join(str(each) for each in wrong)


def _refused_rules(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    try:
        load_rulebook([str(file)], Catalogue())
    except ProblemsError as error:
        return _errors(tuple(error.problems))
    return ""


def test_every_rule_on_a_page_is_a_rule(tmp_path: Path) -> None:
    """What a reader copies as a rule, or into one, is accepted: no name, parameter or duration is out of date."""
    whole = _of("rules") | {where: _whole(text) for where, text in _of("part").items()}
    assert len(whole) > 100
    refused = {where: _refused_rules(tmp_path / "rules.yaml", text) for where, text in whole.items()}
    assert {where: why for where, why in refused.items() if why} == {}


def test_every_setting_on_a_page_is_a_setting(tmp_path: Path) -> None:
    """What a reader copies as settings is accepted."""
    refused = {}
    settings = _of("settings")
    assert len(settings) > 20
    for where, text in settings.items():
        file = tmp_path / "remediator.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            load_settings(str(file), Catalogue())
        except ProblemsError as error:
            if why := _errors(tuple(error.problems)):
                refused[where] = why
    assert refused == {}


def test_every_value_on_the_page_of_the_chart_is_a_value() -> None:
    """What a reader copies as values of the chart is accepted by its schema."""
    values = _of("values")
    assert len(values) > 4
    with helm_python.Chart.load(CHART) as chart:
        for text in values.values():
            chart.validate_schema(yaml.safe_load(text))


def test_few_examples_are_something_else() -> None:
    """Only files of other programs, and files that are neither rules nor settings, are not looked at."""
    assert sorted(where.rpartition(" ")[0] for where in _of("other")) == [
        "docs/how-to/connect-alertmanager.md",  # the configuration of Alertmanager
        "docs/how-to/install-with-helm.md",  # a Pod
        "docs/reference/cli.md",  # where the server is
        "docs/reference/http.md",  # TLS
        "docs/reference/rules.md",  # the first line of a file, for editors
    ]


@pytest.mark.parametrize("wrong", ["verify: {until: alert.gone, within: 5m}", "steps: [{uses: a.b, target: c}]"])
def test_what_is_wrong_is_seen(wrong: str, tmp_path: Path) -> None:
    """A part of a rule with a wrong name in it does not pass as an example."""
    assert _refused_rules(tmp_path / "rules.yaml", _whole(wrong))
