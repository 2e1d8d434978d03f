"""The demonstration's quick copies of the shipped Prometheus and Alertmanager files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml

from remediator.demo import monitoring
from tests.servers import program

ROOT = Path(__file__).parents[2]
ADDRESSES = {
    "minting-service": "127.0.0.1:3000",
    "remediator": "127.0.0.1:9095",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "127.0.0.1:9093",
}


def check(*argv: str, cwd: Path | None = None) -> None:
    """The command must succeed."""
    result = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def expressions(document: Any) -> dict[tuple[str, str], tuple[str, Any]]:
    """What decides in a rule file: expression and labels of every alert, by name and metric."""
    return {
        (rule["alert"], rule["labels"].get("metric", "")): (rule["expr"], rule["labels"])
        for group in document["groups"]
        for rule in group["rules"]
    }


def test_the_copies_are_accepted_by_the_real_tools(tmp_path: Path) -> None:
    """Prometheus and Alertmanager accept what the demonstration gives them."""
    for name, text in monitoring.alert_rules().items():
        (tmp_path / name).write_text(text)
    prometheus = tmp_path / "prometheus.yaml"
    prometheus.write_text(monitoring.prometheus_config(ADDRESSES, "127.0.0.1:9093", tmp_path))
    check(program("promtool"), "check", "config", str(prometheus))
    alertmanager = tmp_path / "alertmanager.yaml"
    alertmanager.write_text(monitoring.alertmanager_config("http://127.0.0.1:9095/x", tmp_path / "token"))
    check(program("amtool"), "check-config", str(alertmanager))


def test_only_the_waiting_is_shortened() -> None:
    """The demonstration evaluates the very expressions and labels that are shipped for production."""
    copies = {name: yaml.safe_load(text) for name, text in monitoring.alert_rules().items()}
    assert sorted(copies) == ["minting-service.yml", "remediator.yml"]
    for name, copy in copies.items():
        shipped = yaml.safe_load((ROOT / "alertmanager" / "rules" / name).read_text())
        assert expressions(copy) == expressions(shipped)
    waits = {rule["alert"]: rule.get("for") for rule in copies["minting-service.yml"]["groups"][0]["rules"]}
    assert waits["HighQueueDepth"] == "3s"
    assert waits["HighErrorRate"] == "5m"


def test_nothing_leaves_this_machine(tmp_path: Path) -> None:
    """Every address of the shipped files is replaced by one of loopback."""
    prometheus = monitoring.prometheus_config(ADDRESSES, "127.0.0.1:9093", tmp_path)
    alertmanager = monitoring.alertmanager_config("http://127.0.0.1:9095/x", tmp_path / "token")
    assert ".svc" not in prometheus + alertmanager
    assert str(tmp_path / "token") in alertmanager


def test_an_installed_wheel_carries_the_shipped_files(tmp_path: Path) -> None:
    """The demonstration of an installed Remediator finds the alert rules, its own rule and the captured bodies."""
    check(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        shipped = archive.read("remediator/demo/alertmanager/rules/minting-service.yml")
    assert shipped == (ROOT / "alertmanager" / "rules" / "minting-service.yml").read_bytes()
    assert {
        "remediator/demo/alertmanager/alertmanager.yml",
        "remediator/demo/alertmanager/prometheus.yml",
        "remediator/demo/rules/minting.yaml",
        "remediator/demo/captured/firing.json",
        "remediator/demo/captured/resolved.json",
    } <= names
