"""``no_owner``: whoever is asked to approve a change at night needs to know whose rule it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from remediator.checks import Check, CheckContext, Finding
from remediator.problem import Severity
from remediator.rule import Rule


class NoOwner(Check):
    """A rule should name the team that answers for it."""

    severity: ClassVar[Severity] = Severity.INFO

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding, on the rule's name, if there is no owner."""
        if not rule.owner:
            yield Finding(
                ("name",), f'rule "{rule.name}" has no owner', "write owner: and the team that answers for it"
            )
