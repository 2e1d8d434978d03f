"""conflict: opposite changes of one thing are told from others, and wait until the first is old."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.facts import PastChange
from remediator.guard import Decision
from remediator.guards.conflict import Conflict
from tests.guards.context import NOW, Said, context, proposed

J = dict[str, Any]


def past(before: J, after: J, *, at: float = NOW - 60, subject: str = "web") -> Said:
    """Facts with one change of another run."""
    return Said(changes=[PastChange("other", "up", "kubernetes.scale", subject, "done", before, after, at)])


@pytest.mark.parametrize(
    ("theirs", "mine", "held"),
    [
        (({"n": 3}, {"n": 5}), ({"n": 5}, {"n": 3}), True),
        (({"n": 3}, {"n": 5}), ({"n": 5}, {"n": 4}), True),
        (({"n": 5}, {"n": 3}), ({"n": 3}, {"n": 9}), True),
        (({"n": 3}, {"n": 5}), ({"n": 5}, {"n": 7}), False),
        (({"n": 3}, {"n": 5}), ({"n": 5}, {"n": 5}), False),
        (({"n": 3}, {"n": 5}), ({"m": 5}, {"m": 3}), False),
        (({"image": "a"}, {"image": "b"}), ({"image": "b"}, {"image": "a"}), True),
        (({"image": "a"}, {"image": "b"}), ({"image": "b"}, {"image": "c"}), False),
        (({"paused": False}, {"paused": True}), ({"paused": True}, {"paused": False}), True),
        (({"spec": {"n": 3, "x": 1}}, {"spec": {"n": 5, "x": 1}}), ({"spec": {"n": 5}}, {"spec": {"n": 2}}), True),
        (({"spec": {"n": 3}}, {"spec": {"n": 5}}), ({"spec": 5}, {"spec": 2}), False),
        (({}, {"key": "v"}), ({"key": "v"}, {}), True),
        (({"a": [1]}, {"a": [2]}), ({"a": [2]}, {"a": [1]}), True),
        (({}, {}), ({}, {}), False),
    ],
)
async def test_opposite_changes_are_held(theirs: tuple[J, J], mine: tuple[J, J], held: bool) -> None:
    """Numbers that would move the other way, and anything that would become what it was; nothing else."""
    verdict = await Conflict().check(context(past(*theirs), change=proposed(*mine)))
    assert verdict.decision is (Decision.HOLD if held else Decision.ALLOW)
    if held:
        assert (verdict.reason, verdict.until) == ("conflict", NOW - 60 + 1800)


@pytest.mark.parametrize(
    ("mine", "theirs", "held"), [("web", "web", True), ("web", "db", False), ("", "db", True), ("web", "", True)]
)
async def test_only_the_same_thing_counts(mine: str, theirs: str, held: bool) -> None:
    """Another subject is another thing; one that is the whole target meets all of them."""
    facts = past({"n": 3}, {"n": 5}, subject=theirs)
    verdict = await Conflict().check(context(facts, change=proposed({"n": 5}, {"n": 3}, subject=mine)))
    assert (verdict.decision is Decision.HOLD) is held
    assert facts.asked == [("prod", NOW - 1800)]


async def test_old_changes_are_no_conflict() -> None:
    """Protected for half an hour to the second."""
    facts = past({"replicas": 5}, {"replicas": 3}, at=NOW)
    assert (await Conflict().check(context(facts, at=NOW + 1799))).decision is Decision.HOLD
    assert (await Conflict().check(context(facts, at=NOW + 1800))).decision is Decision.ALLOW


async def test_an_unknown_change_is_denied() -> None:
    """What is not known cannot be compared."""
    assert (await Conflict().check(context(change=None))).decision is Decision.DENY


def test_a_window_of_nothing_is_refused() -> None:
    """Such a guard would guard nothing."""
    with pytest.raises(ValidationError):
        Conflict.model_validate({"within": "0s"})
    assert Conflict().looks_back() == 1800.0
