"""``no_verify``: a rule that acts should say how it knows that the problem is gone."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.checks import Check, CheckContext, Finding
from remediator.rule import Mode, Rule


class NoVerify(Check):
    """A run without ``verify`` succeeds as soon as its steps are done, whether they helped or not."""

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding for each remedy, on the rule's name or the remedy's, unless the rule only observes."""
        for number, remedy in enumerate(rule.tries):
            if remedy.verify is None and rule.mode is not Mode.OBSERVE:
                place: tuple[str | int, ...] = ("remedies", number) if rule.remedies else ("name",)
                what = f'remedy "{remedy.name or number}" of ' if rule.remedies else ""
                yield Finding(
                    place,
                    f'{what}rule "{rule.name}" does not verify that it helped',
                    "write verify: {until: alert.resolved, within: 10m}",
                )
