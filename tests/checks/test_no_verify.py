"""no_verify: rules that act without knowing whether it helped are told so."""

from __future__ import annotations

from collections.abc import Callable

VERIFY = "    verify: {until: alert.resolved, within: 10m}\n"


def test_reports_a_rule_that_does_not_verify(say: Callable[..., list[tuple[str, int, int, str]]]) -> None:
    """A rule that acts and does not look afterwards is reported at its name."""
    assert say((VERIFY, "")) == [("check/no_verify", 2, 11, 'rule "backlog" does not verify that it helped')]


def test_says_nothing_of_rules_that_verify_or_never_act(say: Callable[..., list[tuple[str, int, int, str]]]) -> None:
    """A rule that verifies, and one that only observes, are fine."""
    assert say() == []
    assert say((VERIFY, ""), ("mode: auto", "mode: observe")) == []
