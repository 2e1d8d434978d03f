"""Turns the shipped Prometheus and Alertmanager files into those of the demonstration: the same, but quicker.

Everything that decides (expressions, labels, routes) stays as it is shipped. Only addresses, and how long
everybody waits, are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

INTERVAL = "1s"
"""How often the demonstration scrapes and evaluates."""

FOR = {"HighQueueDepth": "3s"}
"""Alerts that the demonstration waits for. The others keep their ``for``, and so stay silent."""
RULE_FILES = ("minting-service.yml", "remediator.yml")
"""The other runbooks' services are not part of the demonstration: their alerts would only say that they are absent."""


def shipped() -> Path:
    """The folder ``alertmanager/``: inside the package when installed, beside it in a source tree."""
    here = Path(__file__).resolve()
    packaged = here.parent / "alertmanager"
    return packaged if packaged.is_dir() else here.parents[2] / "alertmanager"


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _text(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def alert_rules() -> dict[str, str]:
    """The shipped rule files about what runs here, by name; the alerts named in ``FOR`` wait only that long."""
    files = {}
    for path in (shipped() / "rules" / name for name in RULE_FILES):
        document = _load(path)
        for group in document["groups"]:
            for rule in group["rules"]:
                if rule["alert"] in FOR:
                    rule["for"] = FOR[rule["alert"]]
        files[path.name] = _text(document)
    return files


def prometheus_config(addresses: Mapping[str, str], alertmanager: str, rules: Path) -> str:
    """The shipped prometheus.yml on this machine.

    ``addresses`` are ``host:port`` by job name, one for each shipped job; ``rules`` is the folder of the rule
    files. Raises KeyError for a job without an address.
    """
    document = _load(shipped() / "prometheus.yml")
    document["global"] |= {
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "evaluation_interval": INTERVAL,
    }
    document["rule_files"] = [f"{rules}/*.yml"]
    document["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    for scrape in document["scrape_configs"]:
        scrape["static_configs"][0]["targets"] = [addresses[scrape["job_name"]]]
    return _text(document)


def alertmanager_config(webhook: str, credentials_file: Path) -> str:
    """The shipped alertmanager.yml, delivering to ``webhook`` with the token in ``credentials_file``."""
    document = _load(shipped() / "alertmanager.yml")
    for route in (document["route"], *document["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": INTERVAL}
    for receiver in document["receivers"]:
        for config in receiver.get("webhook_configs", []):
            config["url"] = webhook
            config["http_config"]["authorization"]["credentials_file"] = str(credentials_file)
    return _text(document)
