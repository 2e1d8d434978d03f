"""Proves that a rule is read strictly, survives being stored, and that its digest is the rule and nothing else."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.action import canonical_json
from remediator.guard import Guard
from remediator.guards.approval import Approval
from remediator.guards.cooldown import Cooldown
from remediator.rule import Mode, Rule, guard_name, guard_parameters

FULL: dict[str, Any] = {
    "name": "minting-queue-backlog",
    "description": "Grow the pool while jobs wait.",
    "owner": "team-minting",
    "runbook_url": "https://runbooks.example.com/minting",
    "service": "minting",
    "mode": "auto",
    "when": {
        "alert": ["HighQueueDepth", "QueueStuck"],
        "matchers": ['severity=~"warning|critical"'],
        "for": "2m",
        "group_by": ["namespace"],
        "condition": 'labels.namespace == "größe"',
    },
    "guards": [{"cooldown": "10m"}, {"rate_limit": {"runs": 3, "per": "1h"}}, {"rate_limit": {"runs": 5, "per": "1d"}}],
    "probes": [
        {"id": "deps", "uses": "http.get", "target": "api", "with": {"path": "/", "n": 1, "b": True}, "timeout": "5s"}
    ],
    "if": "probes.deps.status == 200",
    "steps": [
        {"id": "scale", "uses": "kubernetes.scale", "target": "prod", "with": {"max": 10, "ratio": 0.5},
         "timeout": "1m30s", "retry": {"attempts": 3, "backoff": "500ms"}},
        {"uses": "http.post", "target": "api", "with": {"path": "/x", "list": ["${{ labels.x }}", None]}},
    ],
    "verify": {"until": "alert.resolved", "within": "10m", "every": "20s"},
    "max_age": "1h",
}  # fmt: skip
SMALL: dict[str, Any] = {
    "name": "a",
    "when": {"alert": "Down"},
    "steps": [{"uses": "http.post", "target": "api"}],
}


def _rule(document: dict[str, Any]) -> Rule:
    return Rule.model_validate(deepcopy(document))


@pytest.mark.parametrize("document", [FULL, SMALL], ids=["full", "small"])
def test_a_stored_rule_is_the_rule(document: dict[str, Any]) -> None:
    """A rule that is read back after a restart is the same in every field, and has the same digest."""
    rule = _rule(document)
    again = Rule.from_body(rule.body)
    assert again == rule
    assert (again.body, again.digest) == (rule.body, rule.digest)
    assert rule.body == canonical_json(json.loads(rule.body))
    assert rule.digest == hashlib.sha256(rule.body.encode()).hexdigest()


def test_what_is_not_written_has_safe_values() -> None:
    """A rule that says nothing about it asks a person, tries once, and does not act on old matters."""
    rule = _rule(SMALL)
    assert rule.mode is Mode.APPROVE
    assert (rule.steps[0].retry.attempts, rule.steps[0].timeout, rule.max_age) == (1, 120.0, 900.0)
    assert (rule.when.alert, rule.when.for_, rule.when.group_by) == (["Down"], 0.0, None)


def _edits(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in a document."""
    if isinstance(document, dict):
        return [place for key, value in document.items() for place in _edits(value, (*path, key))]
    if isinstance(document, list):
        return [place for index, value in enumerate(document) for place in _edits(value, (*path, index))]
    return [path]


@pytest.mark.parametrize("place", _edits(FULL), ids=lambda place: ".".join(map(str, place)))
def test_every_edit_makes_another_digest(place: tuple[Any, ...]) -> None:
    """Whatever value of a rule is edited, runs and approvals of the old one can tell."""
    document = deepcopy(FULL)
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    del inside[place[-1]]
    try:
        edited = _rule(document)
    except ValidationError:
        return  # A rule without this value is none.
    assert edited.digest != _rule(FULL).digest


def test_writing_a_default_out_is_no_edit() -> None:
    """A rule that says what holds anyway is the same rule."""
    assert _rule(SMALL | {"mode": "approve", "max_age": "15m", "guards": []}).digest == _rule(SMALL).digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Has Spaces"},
        {"name": "-a"},
        {"name": ""},
        {"mode": "automatic"},
        {"mode": True},
        {"steps": []},
        {"stepz": []},
        {"max_age": 900},
        {"when": {"alert": []}},
        {"when": {"alert": "Down", "fro": "2m"}},
        {"steps": [{"uses": "http.post"}]},
        {"steps": [{"uses": "post", "target": "api"}]},
        {"steps": [{"uses": "http.post; rm", "target": "api"}]},
        {"steps": [{"uses": "http.post", "target": "api", "retry": {"attempts": 0}}]},
        {"steps": [{"uses": "http.post", "target": "api", "retry": {"attempts": 11}}]},
        {"steps": [{"uses": "http.post", "target": "api", "id": "has-dash"}]},
        {"probes": [{"uses": "http.get", "target": "api"}]},
        {"verify": {"until": "alert.resolved"}},
    ],
    ids=str,
)
def test_a_rule_takes_only_what_it_knows(change: dict[str, Any]) -> None:
    """Misspelt, missing and mistyped parts are errors and never defaults."""
    with pytest.raises(ValidationError):
        _rule(SMALL | change)


def test_a_rule_is_fixed() -> None:
    """No run can edit the rule of the next."""
    rule = _rule(SMALL)
    with pytest.raises(ValidationError):
        rule.__setattr__("mode", Mode.AUTO)


def test_steps_have_names_and_targets() -> None:
    """A step without an id is known by its place; the targets of a rule are those that its steps act on, each once."""
    rule = _rule(FULL)
    assert [rule.step_id(index) for index in range(2)] == ["scale", "step1"]
    assert rule.targets == ("prod", "api")


@pytest.mark.parametrize(
    ("mode", "most", "result"),
    [
        ("auto", "auto", "auto"),
        ("auto", "approve", "approve"),
        ("auto", "observe", "observe"),
        ("approve", "auto", "approve"),
        ("observe", "auto", "observe"),
        ("observe", "approve", "observe"),
    ],
)
def test_a_mode_is_never_raised(mode: str, most: str, result: str) -> None:
    """The highest mode of the settings can only lower what a rule says."""
    assert Mode(mode).at_most(Mode(most)) == Mode(result)


# guards --------------------------------------------------------------------------------------------------------------


def test_a_guard_is_read_in_each_way_it_can_be_written() -> None:
    """Short, long and bare forms of a guard mean the same."""
    short, long = guard_parameters(Cooldown, "10m"), guard_parameters(Cooldown, {"for": "10m"})
    assert Cooldown.model_validate(short) == Cooldown.model_validate(long)
    assert Approval.model_validate(guard_parameters(Approval, None)) == Approval()
    assert guard_name({"cooldown": "10m"}) == "cooldown"


@pytest.mark.parametrize(
    ("kind", "value"), [(Cooldown, 600), (Cooldown, None), (Cooldown, "0s"), (Cooldown, ["10m"]), (Approval, 3)]
)
def test_a_guard_with_wrong_parameters_is_an_error(kind: type[Guard], value: Any) -> None:
    """A value that a guard has no short form for is left for the guard to refuse, and never dropped."""
    with pytest.raises(ValidationError):
        kind.model_validate(guard_parameters(kind, value))
