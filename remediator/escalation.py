"""Whom to call, when, and under which condition: the policies of the settings, and what their clock says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from remediator.clock import Duration
from remediator.expression import CALL, Expression
from remediator.placeholder import MESSAGE_ROOTS, fill
from remediator.rule import USES

NONE = "(none)"
"""What stands where a label or an annotation is missing: a call for help is never lost for that."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "handover": ("title", "text", "sections", "links", "symptom", "impact", "started", "duration", "workaround", "url"),
    "approval": ("ask", "digest", "expires", "summary"),
    "run": ("id", "rule", "service", "owner", "runbook_url"),
}
"""What placeholders find under each root besides labels and annotations."""


class Call(BaseModel):
    """One call to people: an action on a target, some time after people were needed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    name: str = Field(default="", max_length=100, description="Who is called, for people: `engineering lead`.")
    after: Duration = Field(default=0.0, description="How long after people were needed; at once if absent.")
    if_: str | None = Field(
        default=None,
        alias="if",
        description="CEL over severity, service, labels, annotations, state, reason; asked when the time has come.",
    )
    uses: str = Field(pattern=USES, description="The action, such as `slack.post`.")
    target: str = Field(description="A target of the settings.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="The action's parameters.")
    on_resolve: bool | dict[str, Any] = Field(
        default=True,
        description="When the alert has resolved: true takes back what can be taken back (an open page), false does "
        "nothing, a map sends again with these parameters in place of those in `with`.",
    )
    timeout: Duration = Field(default=30.0, gt=0, le=600, description="How long one try may take.")
    give_up: Duration = Field(
        default=21600.0, gt=0, le=604800, description="How long it is tried again when it cannot be sent."
    )

    def told(self) -> dict[str, Any]:
        """The call as JSON data; ``model_validate`` reads it back."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def expression(self) -> Expression | None:
        """Its condition, made ready. Raises ExpressionError."""
        return Expression.compile(self.if_, CALL) if self.if_ else None

    def parameters(self, known: Mapping[str, Any], *, resolved: bool = False) -> dict[str, Any]:
        """The parameters with their placeholders filled in; ``resolved``: those of the message that it is over.

        Raises PlaceholderError.
        """
        given = self.with_
        if resolved and isinstance(self.on_resolve, Mapping):
            given = {**given, **self.on_resolve}
        filled: dict[str, Any] = fill(given, known, MESSAGE_ROOTS)
        return filled


Policy = Sequence[Call]
"""The calls of one escalation policy, in the order of the settings."""


class _Lenient(dict[str, str]):
    """Labels in which nothing is missing."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> str:
        return NONE


def known(
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    severity: str,
    service: str,
    state: str,
    reason: str,
    handover: Mapping[str, Any],
    approval: Mapping[str, Any],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """What the placeholders and conditions of a policy can see."""
    return {
        "labels": _Lenient(labels),
        "annotations": _Lenient(annotations),
        "severity": severity,
        "service": service,
        "state": state,
        "reason": reason,
        "handover": handover,
        "approval": approval,
        "run": run,
    }


def snapshot(policy: Policy) -> list[dict[str, Any]]:
    """The policy as JSON data for a run: who edits the settings later does not change who is called for it."""
    return [call.told() for call in policy]


def restored(data: Sequence[Mapping[str, Any]]) -> tuple[Call, ...]:
    """The policy that ``snapshot`` wrote."""
    return tuple(Call.model_validate(dict(entry)) for entry in data)
