"""``no_cooldown``: a rule that acts by itself needs a bound on how often."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.checks import Check, CheckContext, Finding
from remediator.rule import Mode, Rule


class NoCooldown(Check):
    """An alert that flaps starts a run each time; without ``cooldown`` or ``rate_limit`` each of them acts."""

    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """One finding, on the mode, for rules in mode auto that nothing bounds."""
        if rule.mode is Mode.AUTO and not context.guards_of(rule) & {"cooldown", "rate_limit"}:
            yield Finding(
                ("mode",),
                f'rule "{rule.name}" acts by itself, as often as its alert fires',
                "write guards: [cooldown: 10m], or a rate_limit",
            )
