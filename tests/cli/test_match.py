"""``remediator match``: why an alert is answered, and why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from remediator.cli import main

RULES = """\
rules:
  - name: backlog
    mode: auto
    when:
      alert: HighQueueDepth
      matchers: ['severity=~"warning|critical"', 'team!="other"']
      for: 2m
      condition: labels.namespace == "production"
    guards: [{cooldown: 10m}, {rate_limit: {runs: 3, per: 1h}}]
    steps: [{uses: http.post, target: api, with: {path: /x}}]
  - name: other
    when: {alert: SomethingElse}
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""


def run(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    """The command over RULES."""
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    return CliRunner().invoke(main, ["match", "--rules.path", str(rules), *arguments], input=stdin)


def test_shows_matcher_by_matcher_why(tmp_path: Path) -> None:
    """A matching alert exits 0 and shows each matcher, the condition, the wait, the guards and the steps."""
    done = run(tmp_path, "HighQueueDepth", "severity=warning", "namespace=production")
    assert done.exit_code == 0
    assert done.stdout == (
        '{alertname="HighQueueDepth", namespace="production", severity="warning"}\n'
        f"  ✓ backlog  mode auto, {tmp_path}/rules.yaml\n"
        "      ✓ alert HighQueueDepth\n"
        '      ✓ severity=~"warning|critical"\n'
        '      ✓ team!="other"\n'
        '      ✓ condition: labels.namespace == "production"\n'
        "      · acts once the alert has been firing for 2m\n"
        "      · guard cooldown: 10m\n"
        '      · guard rate_limit: {"runs": 3, "per": "1h"}\n'
        "      · remedy: http.post on api\n"
    )


def test_shows_which_matcher_fails(tmp_path: Path) -> None:
    """An alert that no rule answers exits 1, and the matcher that fails stands beside the label's value."""
    done = run(tmp_path, "alertname=HighQueueDepth", "severity=info", "team=other")
    assert done.exit_code == 1
    assert '✗ severity=~"warning|critical"  (severity is "info")' in done.stdout
    assert '✗ team!="other"  (team is "other")' in done.stdout
    assert 'cannot be told, which is a no: there is no "namespace"' in done.stdout


def test_a_condition_that_fails_is_shown(tmp_path: Path) -> None:
    """The rule matches, and the condition that would then deny the run is marked."""
    done = run(tmp_path, "HighQueueDepth", "severity=warning", "namespace=test")
    assert done.exit_code == 0
    assert '✗ condition: labels.namespace == "production"' in done.stdout


def test_a_misspelt_alert_gets_the_nearest_name(tmp_path: Path) -> None:
    """An alert that no rule names exits 1 with the nearest name there is."""
    done = run(tmp_path, "HighQueueDept")
    assert done.exit_code == 1
    assert 'no rule answers to alertname "HighQueueDept"; did you mean "HighQueueDepth"?' in done.stdout


@pytest.mark.parametrize(
    "body",
    [
        {"alertname": "HighQueueDepth", "severity": "warning", "namespace": "production"},
        {"labels": {"alertname": "HighQueueDepth", "severity": "warning"}, "annotations": {"value": "1"}},
        [{"labels": {"alertname": "HighQueueDepth", "severity": "warning"}}],
        {
            "version": "4",
            "alerts": [
                {"labels": {"alertname": "X"}},
                {"labels": {"alertname": "HighQueueDepth", "severity": "critical"}},
            ],
        },
    ],
)
def test_reads_alerts_of_every_shape(body: object, tmp_path: Path) -> None:
    """Labels, one alert, a list of alerts and a whole webhook body can be asked about, from a file or a pipe."""
    (tmp_path / "alert.json").write_text(json.dumps(body))
    assert run(tmp_path, "--alert", str(tmp_path / "alert.json")).exit_code == 0
    assert run(tmp_path, "--alert", "-", stdin=json.dumps(body)).exit_code == 0


def test_json_tells_the_same(tmp_path: Path) -> None:
    """With -o json the answer is data: per alert the rules of its name, matcher by matcher."""
    done = run(tmp_path, "HighQueueDepth", "severity=info", "namespace=production", "-o", "json")
    assert done.exit_code == 1
    (answer,) = json.loads(done.stdout)
    assert answer["labels"]["severity"] == "info"
    (rule,) = answer["rules"]
    assert (rule["name"], rule["matched"], rule["mode"], rule["for"]) == ("backlog", False, "auto", "2m")
    assert [each["matched"] for each in rule["matchers"]] == [False, True]
    assert (rule["condition_holds"], rule["condition_error"]) == (True, None)


@pytest.mark.parametrize(
    "arguments",
    [(), ("a=b", "--alert", "-"), ("HighQueueDepth", "severity"), ("=x",), ("--alert", "nope.json"), ("--nope",)],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Without an alert, with two, or with something that is none, the command says how it is called."""
    assert run(tmp_path, *arguments, stdin="{}").exit_code == 2


@pytest.mark.parametrize("text", ["no json", "3", "[3]", '{"labels": {"a": 1}}', '{"alerts": []}', '{"alerts": 3}'])
def test_what_is_no_alert_is_refused(text: str, tmp_path: Path) -> None:
    """A file without an alert in it is refused with a sentence, not a traceback."""
    done = run(tmp_path, "--alert", "-", stdin=text)
    assert done.exit_code == 2
    assert "Error: -" in done.stderr


def test_broken_rules_are_reported(tmp_path: Path) -> None:
    """Rules that cannot be loaded exit 1 with their report on standard error."""
    done = run(tmp_path, "HighQueueDepth", "--rules.path", str(tmp_path / "nope.yaml"))
    assert done.exit_code == 1
    assert "[file/missing]" in done.stderr


def test_a_label_cannot_command_the_terminal(tmp_path: Path) -> None:
    """Control characters in labels are shown as escapes."""
    done = run(tmp_path, "HighQueueDepth", "severity=\x1b[2J")
    assert "\x1b" not in done.stdout


LADDER = """
rules:
  - name: ladder
    mode: auto
    when: {alert: HighQueueDepth}
    if: severity != "info"
    probes:
      - {id: deps, uses: http.get, target: api, with: {path: /health}}
    remedies:
      - name: workers
        if: probes.deps.status == 200 && severity == "critical"
        steps: [{uses: http.post, target: api, with: {path: /workers}}]
        verify: {until: alert.resolved, within: 10m}
      - name: critical only
        if: severity == "critical"
        steps: [{wait: 15m}, {uses: http.post, target: api, with: {path: /restart}}]
      - name: rest
        if: probes.deps.status == 200
        steps: [{uses: http.post, target: api, with: {path: /restart}}]
    finally: [{uses: http.post, target: api, with: {path: /resume}}]
"""


def test_remedies_are_explained_as_far_as_the_alert_can_tell(tmp_path: Path) -> None:
    """Conditions over labels are answered now; those over probes say what they wait for."""
    (tmp_path / "ladder.yaml").write_text(LADDER)
    done = run(tmp_path, "HighQueueDepth", "severity=warning", "--rules.path", str(tmp_path / "ladder.yaml"))
    assert done.exit_code == 0
    for line in (
        '✓ if: severity != "info"',
        "remedy workers: http.post on api",
        "helped when, within 10m: alert.resolved",
        '✗ if: severity == "critical"',
        "✗ remedy critical only: wait 15m; http.post on api",
        "? if: probes.deps.status == 200  (depends on what probes will show)",
        "in any case afterwards: http.post on api",
    ):
        assert line in done.stdout, line
    done = run(
        tmp_path, "HighQueueDepth", "severity=warning", "--rules.path", str(tmp_path / "ladder.yaml"), "-o", "json"
    )
    rule = next(r for r in json.loads(done.stdout)[0]["rules"] if r["name"] == "ladder")
    assert rule["if_holds"] is True and rule["finally"] == ["http.post on api"]
    assert [(r["name"], r["if_holds"]) for r in rule["remedies"]][1:] == [("critical only", False), ("rest", None)]
