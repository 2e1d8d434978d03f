"""The files that the demonstration gives to Remediator."""

from __future__ import annotations

from pathlib import Path

import yaml

from remediator.catalogue import Catalogue
from remediator.demo import stage
from remediator.rule import Mode
from remediator.rulebook import load_rulebook
from remediator.settings import load_settings


def test_the_settings_and_rules_of_the_demonstration_are_accepted(tmp_path: Path) -> None:
    """The demonstration's own files load without a problem, and its rule answers the shipped alert's labels."""
    place = stage.Stage(
        directory=tmp_path,
        admin_token="a",
        intake_token="b",
        minting="http://127.0.0.1:3000",
        remediator="http://127.0.0.1:9095",
    )
    for name in ("admin.token", "intake.token"):
        (tmp_path / name).write_text("x" * 32)
    place.settings.write_text(yaml.safe_dump(stage.settings_of(place)))
    stage.write_rules(place.rules)
    registry = Catalogue()
    settings = load_settings(place.settings, registry)
    assert settings.warnings == ()
    assert settings.web.loopback, "the demonstration may never be reachable from outside"
    rulebook = load_rulebook([place.rules], registry, settings.targets)
    [rule] = rulebook.rules
    assert rule.mode is Mode.AUTO
    labels = {"alertname": "HighQueueDepth", "namespace": "production", "severity": "warning", "service": "minting"}
    assert rulebook.match(labels) == (rule,)
    assert rulebook.match({**labels, "alertname": "Watchdog"}) == ()
