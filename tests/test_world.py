"""What the engine acts by: one value, replaced whole."""

from __future__ import annotations

import dataclasses

import pytest

from remediator.planning import Plans
from remediator.rule import Rule
from remediator.world import World
from tests.engine_world import TestRegistry


def a_world() -> World:
    """A world with one service that has words of its own for severities."""
    registry = TestRegistry()
    return World(
        registry=registry,
        rules={},
        targets={},
        plans=Plans(registry),
        severities={"minting": {"critical": "SEV1"}},
    )


def a_rule(service: str) -> Rule:
    """A rule of a service."""
    step = {"uses": "place.kick", "target": "here", "with": {"thing": "lamp"}}
    return Rule.model_validate({"name": "one", "service": service, "when": {"alert": "A"}, "steps": [step]})


@pytest.mark.parametrize(
    ("service", "labels", "severity"),
    [
        ("minting", {"severity": "critical"}, "SEV1"),
        ("minting", {"severity": "warning"}, "warning"),
        ("other", {"severity": "critical"}, "critical"),
        ("", {}, ""),
    ],
)
def test_a_severity_is_told_in_the_words_of_the_service(service: str, labels: dict[str, str], severity: str) -> None:
    """Mapped where the settings map it, the label as it stands where they do not, nothing where there is none."""
    assert a_world().severity(a_rule(service), labels) == severity


def test_a_world_cannot_be_changed_in_place() -> None:
    """An advance that began with a world ends with it; a reload makes another one."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_world().targets = {}  # type: ignore[misc]  # what must not be possible
