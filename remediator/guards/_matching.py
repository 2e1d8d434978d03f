"""Matchers as parameters of guards: read at load, so that a mistake is refused with a sentence."""

from __future__ import annotations

from remediator.matcher import Matcher, MatcherError, parse_matchers


def checked(texts: list[str]) -> list[str]:
    """``texts`` if each is a matcher and one of them says which alerts are meant. Raises ValueError."""
    found: list[Matcher] = []
    for text in texts:
        try:
            found += parse_matchers(text)
        except MatcherError as error:
            raise ValueError(f"{text}: {error}") from None
    if not any(matcher.name == "alertname" and matcher.operator in ("=", "=~") for matcher in found):
        raise ValueError('one of the matchers must name the alert: alertname="DatabaseDown"')
    if all(matcher.matches({}) for matcher in found):
        raise ValueError("these matchers match everything; name the alert")
    return texts
