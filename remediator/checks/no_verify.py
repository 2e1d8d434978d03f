"""``no_verify``: a rule that acts should say how it knows that the problem is gone."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.checks import Check, CheckContext, Finding
from remediator.rule import Mode, Rule


class NoVerify(Check):
    """A run without ``verify`` succeeds as soon as its steps are done, whether they helped or not."""

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding, on the rule's name, unless the rule only observes."""
        if rule.verify is None and rule.mode is not Mode.OBSERVE:
            yield Finding(
                ("name",),
                f'rule "{rule.name}" does not verify that it helped',
                "write verify: {until: alert.resolved, within: 10m}",
            )
