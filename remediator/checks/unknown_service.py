"""``unknown_service``: a rule's service should be one that the settings describe."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.checks import Check, CheckContext, Finding
from remediator.problem import nearest
from remediator.rule import Rule


class UnknownService(Check):
    """Severities of a service that the settings do not have stay what the alert calls them."""

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding, on the service, where the settings are known and do not have it."""
        if rule.service and context.services is not None and rule.service not in context.services:
            yield Finding(
                ("service",),
                f'no service is named "{rule.service}"',
                nearest(rule.service, context.services) or "define it under services: in the settings",
            )
