"""The shipped Prometheus and Alertmanager files, judged by the tools of those two projects."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.metrics import Metrics

SHIPPED = Path(__file__).parents[2] / "alertmanager"
RULE_FILES = sorted(SHIPPED.glob("rules/*.yml"))
UNIT_TESTS = sorted(SHIPPED.glob("rules/tests/*.yml"))


def tool(name: str, *arguments: str, directory: Path = SHIPPED) -> subprocess.CompletedProcess[str]:
    """Run promtool or amtool; a machine without them is a failure and not a pass."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: run `make test`, which installs it"
    return subprocess.run([found, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def load(path: Path) -> Any:
    """The parsed YAML of a shipped file."""
    return yaml.safe_load(path.read_text())


def alert_rules() -> list[dict[str, Any]]:
    """Every alert rule of every shipped file."""
    return [rule for path in RULE_FILES for group in load(path)["groups"] for rule in group["rules"]]


def test_prometheus_accepts_its_configuration_and_every_rule() -> None:
    """Promtool accepts prometheus.yml and the rule files it includes."""
    result = tool("promtool", "check", "config", "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    for path in RULE_FILES:
        assert path.name in result.stdout, "prometheus.yml does not include this rule file"


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alert_rules_behave_as_their_timelines_say(path: Path) -> None:
    """Promtool replays the timelines: error ratios, shared wallets and vanished metrics behave as claimed."""
    result = tool("promtool", "test", "rules", path.name, directory=path.parent)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_about_remediator_lead_to_a_page_that_there_is() -> None:
    """Whoever is woken by one of Remediator's own alerts finds the page that it names."""
    links = [rule["annotations"]["runbook_url"] for rule in alert_rules() if "runbook_url" in rule["annotations"]]
    pages = [link.partition("//remediator.example.com/")[2] for link in links]
    own = [page for page in pages if page]
    assert len(own) > 10
    assert [page for page in own if not (SHIPPED.parent / f"{page}.md").is_file()] == []


def test_every_rule_file_has_timelines() -> None:
    """No rule file is shipped without unit tests of its own."""
    assert [path.name for path in RULE_FILES] == [path.name for path in UNIT_TESTS]


def test_timelines_can_fail(tmp_path: Path) -> None:
    """The unit tests notice the runbook's own error-rate expression, so they are able to fail."""
    rules = load(SHIPPED / "rules" / "minting-service.yml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == "HighErrorRate":
                rule["expr"] = "rate(minting_errors_total[5m]) > 0.05"
    (tmp_path / "tests").mkdir()
    (tmp_path / "minting-service.yml").write_text(yaml.safe_dump(rules))
    shutil.copy(SHIPPED / "rules" / "tests" / "minting-service.yml", tmp_path / "tests")
    result = tool("promtool", "test", "rules", "minting-service.yml", directory=tmp_path / "tests")
    assert result.returncode != 0
    assert "half of four requests a minute fail" in result.stdout + result.stderr
    assert "one in ten thousand of sixty thousand" in result.stdout + result.stderr


def test_every_alert_tells_a_person_what_it_is() -> None:
    """Each alert carries a summary, a description, a link to its runbook, its value, and a severity."""
    for rule in alert_rules():
        annotations = rule["annotations"]
        assert {"summary", "description", "runbook_url", "value"} <= annotations.keys(), rule["alert"]
        assert annotations["value"] == "{{ $value }}"
        assert rule["labels"]["severity"] in {"critical", "error", "warning", "info", "none"}


def test_every_metric_of_the_minting_alerts_has_an_absent_companion() -> None:
    """No alert about the minting service can become blind without another alert saying so."""
    alerts, absent = load(SHIPPED / "rules" / "minting-service.yml")["groups"]
    expressions = [rule["expr"] for rule in alerts["rules"]]
    companions = [rule["expr"] for rule in absent["rules"]]
    used = {
        word
        for expression in expressions
        for word in expression.replace("(", " ").replace("{", " ").replace("[", " ").split()
        if word.startswith("minting_")
    }
    assert used, "the expressions use no metric of the minting service"
    for metric in used:
        assert any(f"absent({metric}" in companion for companion in companions), metric


def test_the_alerts_about_remediator_read_metrics_that_exist() -> None:
    """No alert about Remediator waits for a metric that Remediator does not export."""
    exported = {family.name: family for family in Metrics().registry.collect()}
    used = {
        name
        for rule in load(SHIPPED / "rules" / "remediator.yml")["groups"][1]["rules"]
        for name in re.findall(r"remediator_[a-z_]+", rule["expr"])
    }
    assert used
    assert {name.removesuffix("_total") for name in used} <= exported.keys()


def test_alertmanager_accepts_its_configuration() -> None:
    """Amtool of Alertmanager 0.25 accepts alertmanager.yml."""
    result = tool("amtool", "check-config", "alertmanager.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_webhook_is_authenticated_and_complete() -> None:
    """The receiver sends a token, sends resolved alerts, truncates nothing and follows no redirect."""
    receivers = {receiver["name"]: receiver for receiver in load(SHIPPED / "alertmanager.yml")["receivers"]}
    [webhook] = receivers["remediator"]["webhook_configs"]
    assert webhook["url"].endswith(":9095/api/v1/alertmanager")
    assert webhook["send_resolved"] is True
    assert webhook["max_alerts"] == 0
    assert webhook["http_config"]["follow_redirects"] is False
    assert webhook["http_config"]["authorization"]["credentials_file"].startswith("/")
    assert "timeout" not in webhook, "Alertmanager 0.25 refuses this field"


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["alertname=HighQueueDepth", "severity=warning", "service=minting"], "remediator,people"),
        (["alertname=SomethingElse"], "remediator,people"),
        (["alertname=Watchdog", "severity=none"], "remediator"),
        (["alertname=RemediatorDown", "severity=critical", "service=remediator"], "people"),
    ],
    ids=["minting", "unknown", "watchdog", "remediator"],
)
def test_routing(labels: list[str], receivers: str) -> None:
    """Alerts reach Remediator and people; alerts about Remediator reach people only."""
    result = tool(
        "amtool", "config", "routes", "test", "--config.file=alertmanager.yml",
        f"--verify.receivers={receivers}", *labels,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_heartbeat_beats_faster_than_its_alarm() -> None:
    """The Watchdog is repeated often enough that RemediatorHearsNothing cannot fire on a healthy chain."""
    routes = load(SHIPPED / "alertmanager.yml")["route"]["routes"]
    [watchdog] = [route for route in routes if 'alertname="Watchdog"' in route.get("matchers", [])]
    assert watchdog["repeat_interval"] == "5m"
    [alarm] = [rule for rule in alert_rules() if rule["alert"] == "RemediatorHearsNothing"]
    assert "[15m]" in alarm["expr"]
