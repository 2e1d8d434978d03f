"""no_owner: a rule that nobody answers for is told so, quietly."""

from __future__ import annotations

from collections.abc import Callable

from remediator.checks.no_owner import NoOwner
from remediator.problem import Severity

Say = Callable[..., list[tuple[str, int, int, str]]]


def test_reports_a_rule_without_an_owner(say: Say) -> None:
    """A rule that names no team is reported at its name, as information only."""
    assert say(("    owner: team-minting\n", "")) == [("check/no_owner", 2, 11, 'rule "backlog" has no owner')]
    assert NoOwner.severity is Severity.INFO


def test_says_nothing_of_a_rule_with_an_owner(say: Say) -> None:
    """A rule that names its team is fine."""
    assert say() == []
