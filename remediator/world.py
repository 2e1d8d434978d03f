"""What the engine acts by: rules, targets and settings as one value that a reload replaces whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remediator.escalation import Policy
from remediator.planning import Plans
from remediator.rule import Mode, Registry, Rule
from remediator.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One consistent set; an advance that began with it ends with it."""

    registry: Registry
    rules: Mapping[str, Rule]
    targets: Mapping[str, Target]
    plans: Plans
    mode_max: Mode = Mode.AUTO
    severities: Mapping[str, Mapping[str, str]]
    """Service → value of the alert's ``severity`` label → the service's own level (SEV1, P0 …)."""
    approval_expires: float = 900.0
    escalations: Mapping[str, Policy] = field(default_factory=dict)
    """Whom to call, by the names that rules use."""
    approvals_notify: str = ""
    """The policy that tells people about open questions, or an empty string."""
    external_url: str = ""
    """The address that links in messages begin with, or an empty string."""

    def siblings(self, rule: Rule) -> tuple[str, ...]:
        """Names of the rules of the same service, this one included; a rule without a service is alone."""
        if not rule.service:
            return (rule.name,)
        found = [name for name, other in self.rules.items() if other.service == rule.service]
        return tuple(sorted({rule.name, *found}))

    def severity(self, rule: Rule, labels: Mapping[str, str]) -> str:
        """The level of this incident in its service's own words, or the alert's label where nothing is mapped."""
        said = labels.get("severity", "")
        return self.severities.get(rule.service, {}).get(said, said)
