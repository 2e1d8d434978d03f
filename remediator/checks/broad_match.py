"""``broad_match``: a matcher that every alert satisfies says less than it seems to."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.checks import Check, CheckContext, Finding
from remediator.matcher import parse_matchers
from remediator.rule import Rule


class BroadMatch(Check):
    """``namespace=~".*"`` holds for every namespace and also where there is none: it narrows nothing."""

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding for each matcher that holds for any value."""
        for index, text in enumerate(rule.when.matchers):
            for matcher in parse_matchers(text):
                if matcher.matches_everything:
                    yield Finding(
                        ("when", "matchers", index),
                        f"{matcher} matches every alert, also one without the label",
                        f'write {matcher.name}=~".+" to demand the label, or leave the matcher out',
                    )
