"""``breaker``: what has failed several times in a row is not tried again until somebody has looked."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar

from pydantic import Field, field_validator

from remediator.expression import IF, Expression, ExpressionError
from remediator.guard import Guard, GuardContext, Scope, Verdict
from remediator.guards._failing import streak

_PROBE = re.compile(r"\bprobes\s*(?:\.\s*|\[\s*[\"'])([A-Za-z_][A-Za-z0-9_]*)")


class Breaker(Guard):
    """Opens when the last ``failures`` runs of a scope that acted all failed or did not help, and then holds.

    Open is durable: it survives restarts and holds on every replica. It closes when a person releases it
    (``remediator guard release breaker``), or when ``close_if`` is true of the probes, which are read each time a
    held run looks again. What failed before it was closed does not count any more.
    """

    shorthand: ClassVar[str | None] = "failures"

    failures: int = Field(default=3, ge=1, le=50, description="How many runs in a row must have failed.")
    scope: Scope = Field(
        default="rule", description="Whose runs count: of this `rule`, this `incident`, on this `target`, or all."
    )
    close_if: str | None = Field(
        default=None, description="CEL over labels and probes; true closes the breaker: `probes.health.ok == true`."
    )

    @field_validator("close_if")
    @classmethod
    def _condition(cls, source: str | None) -> str | None:
        try:
            if source is not None:
                _compiled(source)
        except ExpressionError as error:
            raise ValueError(str(error)) from None
        return source

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``breaker``."""
        for name in _scopes(self.scope, context):
            kept = await context.facts.state("breaker", name)
            if kept is None or not kept.open:
                bad = streak(await context.facts.past_runs(self.scope, kept.since if kept else 0.0))
                if len(bad) < self.failures:
                    continue
                why = f"the last {len(bad)} runs of this {self.scope} failed or did not help"
                kept = await context.facts.open("breaker", name, why)
            if self._closes(context):
                await context.facts.close("breaker", name, f"so: {self.close_if}")
                continue
            about = f"breaker:{name}:{kept.since:.3f}"
            return Verdict.hold("breaker", f"{kept.why}; a person must release it ({name})", about=about)
        return Verdict.allow()

    def _closes(self, context: GuardContext) -> bool:
        if self.close_if is None:
            return False
        seen = {name: evidence["value"] for name, evidence in context.evidence.items() if evidence.get("ok")}
        known = {
            "labels": dict(context.labels), "annotations": {}, "alerts": [], "count": 0,
            "severity": context.severity, "probes": seen,
        }  # fmt: skip
        try:
            return _compiled(self.close_if).evaluate(known)
        except ExpressionError:
            return False  # Unknown closes nothing.

    def reads(self) -> Collection[str]:
        """The probes of ``close_if``."""
        return set(_PROBE.findall(self.close_if or ""))


def _compiled(source: str) -> Expression:
    return Expression.compile(source, IF - {"annotations", "alerts", "count"}, probes=_PROBE.findall(source))


def _scopes(scope: Scope, context: GuardContext) -> list[str]:
    return {
        "rule": [f"rule:{context.rule}"],
        "incident": [f"incident:{context.incident_key}"],
        "target": [f"target:{name}" for name in context.targets],
        "global": ["global"],
    }[scope]
