"""no_cooldown: rules that act by themselves without a bound are told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Say = Callable[..., list[tuple[str, int, int, str]]]
GUARDS = "    guards: [{cooldown: 10m}]\n"


def test_reports_a_rule_without_a_bound(say: Say) -> None:
    """A rule in mode auto that nothing bounds is reported at its mode."""
    message = 'rule "backlog" acts by itself, as often as its alert fires'
    assert say((GUARDS, "")) == [("check/no_cooldown", 4, 11, message)]


@pytest.mark.parametrize(
    "change", ["    guards: [{rate_limit: {runs: 3, per: 1h}}]\n", "    guards: [{approval: {}}, {cooldown: 1s}]\n"]
)
def test_either_bound_is_enough(say: Say, change: str) -> None:
    """A cooldown or a rate limit bounds the rule."""
    assert say((GUARDS, change)) == []


def test_people_are_a_bound_and_so_are_the_settings(say: Say) -> None:
    """Where a person is asked, and where the settings bound every rule, nothing is missing."""
    assert say((GUARDS, ""), ("mode: auto", "mode: approve")) == []
    assert say((GUARDS, ""), guards=[{"rate_limit": {"runs": 1, "per": "1h"}}]) == []
