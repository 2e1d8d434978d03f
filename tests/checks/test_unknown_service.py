"""unknown_service: a misspelt service is told, where the settings are known."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[..., list[tuple[str, int, int, str]]]
SERVICE = ("    mode: auto\n", "    mode: auto\n    service: mintin\n")


def test_reports_a_service_that_the_settings_do_not_have(say: Say) -> None:
    """A service that is not described is reported at its place."""
    found = say(SERVICE, services={"minting": None})
    assert found == [("check/unknown_service", 5, 14, 'no service is named "mintin"')]


def test_says_nothing_where_it_cannot_know(say: Say) -> None:
    """Without settings, without a service, and with a service that exists there is nothing to say."""
    assert say(SERVICE) == []
    assert say(services={"minting": None}) == []
    assert say(SERVICE, services={"mintin": None}) == []
