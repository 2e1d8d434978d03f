"""broad_match: matchers that narrow nothing are told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Say = Callable[..., list[tuple[str, int, int, str]]]


def test_reports_a_matcher_that_narrows_nothing(say: Say) -> None:
    """A matcher that every alert satisfies is reported at its place in the list."""
    found = say(("{alert: A}", "{alert: A, matchers: ['x=\"1\"', 'ns=~\".*\"']}"))
    assert found == [("check/broad_match", 5, 42, 'ns=~".*" matches every alert, also one without the label')]


@pytest.mark.parametrize("matcher", ['ns=~".+"', 'ns=~"prod.*"', 'ns!~".*"', 'ns=".*"'])
def test_says_nothing_of_matchers_that_can_fail(say: Say, matcher: str) -> None:
    """A matcher that some alert fails is fine."""
    assert say(("{alert: A}", f"{{alert: A, matchers: ['{matcher}']}}")) == []
