"""A rule as the SRE wrote it: the grammar of ``rules/*.yaml`` as models, and the rule's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from remediator.action import Action, canonical_json
from remediator.clock import Duration
from remediator.guard import Guard
from remediator.probe import Probe
from remediator.target import Target

RULE_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
USES = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"


class Mode(StrEnum):
    """How far a rule may go, in rising order: only look, act after a person said yes, act."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"

    def at_most(self, other: Mode) -> Mode:
        """The lower of the two modes."""
        order = list(Mode)
        return order[min(order.index(self), order.index(other))]


class Registry(Protocol):
    """What integrations and guards exist, by name. The catalogue is the real one."""

    def action(self, name: str) -> type[Action[Any]] | None:
        """The action of that name, or None."""
        ...

    def probe(self, name: str) -> type[Probe[Any]] | None:
        """The probe of that name, or None."""
        ...

    def guard(self, name: str) -> type[Guard] | None:
        """The guard of that name, or None."""
        ...

    def target_kind(self, kind: str) -> type[Target] | None:
        """The kind of target, which is the name of its integration, or None."""
        ...

    def names(self, family: str) -> Sequence[str]:
        """All names of ``actions``, ``probes``, ``guards`` or ``targets`` (kinds)."""
        ...


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class When(_Part):
    """Which alerts a rule answers, and what makes one incident of them."""

    alert: Annotated[list[str], BeforeValidator(_listed)] = Field(
        min_length=1, description="The alert's name (label `alertname`), or a list of names."
    )
    matchers: list[str] = Field(
        default_factory=list,
        description="Alertmanager matchers over the alert's labels; all must match: `severity=~\"warning|critical\"`.",
    )
    for_: Duration = Field(
        default=0.0, alias="for", description="Act only when the alert has been firing at least this long."
    )
    group_by: list[str] | None = Field(
        default=None,
        description="Labels that make one incident. Default: all labels but the settings' `intake.drop_labels`.",
    )
    condition: str | None = Field(
        default=None, description="CEL over labels, annotations, alerts, count; false ends the run as denied."
    )


class ProbeCall(_Part):
    """One look at a target before acting; its evidence is kept with the run."""

    id: str = Field(pattern=NAME, description="Name of the evidence: `probes.<id>` in CEL and placeholders.")
    uses: str = Field(pattern=USES, description="The probe, such as `http.get`.")
    target: str = Field(description="A target of the settings.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="The probe's parameters.")
    timeout: Duration = Field(default=10.0, description="How long the probe may take.")


class Retry(_Part):
    """Further tries after a TemporaryError, each under its own licence."""

    attempts: int = Field(default=2, ge=1, le=10, description="How often the step is tried in all.")
    backoff: Duration = Field(default=10.0, description="Pause before the second try; doubles each time.")


class Step(_Part):
    """One action on one target."""

    id: str | None = Field(default=None, pattern=NAME, description="Name of the result: `steps.<id>`.")
    uses: str = Field(pattern=USES, description="The action, such as `kubernetes.scale`.")
    target: str = Field(description="A target of the settings; rules hold no address and no secret.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="The action's parameters.")
    timeout: Duration = Field(default=120.0, description="How long diff, apply and verify may each take.")
    retry: Retry = Field(default_factory=lambda: Retry(attempts=1), description="Tries after a temporary error.")


class Verify(_Part):
    """When the problem counts as gone."""

    until: str = Field(description="CEL; the run has succeeded when it is true: `alert.resolved`.")
    within: Duration = Field(description="How long to wait for `until` before the run counts as ineffective.")
    every: Duration = Field(default=15.0, description="How often to look again.")


class Rule(_Part):
    """One rule. ``digest`` is what runs, approvals and the audit are bound to."""

    name: str = Field(pattern=RULE_NAME, description="Unique over all files.")
    description: str = Field(default="", description="What the rule does, for people.")
    owner: str = Field(default="", description="The team that answers for it.")
    runbook_url: str = Field(default="", description="Where the runbook is.")
    service: str = Field(default="", description="A service of the settings: severity map, escalation, budget.")
    mode: Mode = Field(
        default=Mode.APPROVE,
        strict=False,
        description="observe: only look; approve: a person says yes to the shown change; auto: act.",
    )
    when: When = Field(description="Which alerts.")
    guards: list[dict[str, Any]] = Field(
        default_factory=list, description="Each a map with the guard's name as its single key: `- cooldown: 10m`."
    )
    probes: list[ProbeCall] = Field(default_factory=list, description="What to look at before acting.")
    if_: str | None = Field(
        default=None, alias="if", description="CEL over labels, probes; false ends the run as denied."
    )
    steps: list[Step] = Field(min_length=1, description="What to do, in order.")
    verify: Verify | None = Field(default=None, description="When the problem counts as gone.")
    max_age: Duration = Field(
        default=900.0, description="A run that has not begun to act this long after it was due has expired."
    )

    @cached_property
    def body(self) -> str:
        """The rule as canonical JSON; ``Rule.from_body`` reads it back."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the body, hex."""
        return hashlib.sha256(self.body.encode()).hexdigest()

    @classmethod
    def from_body(cls, body: str) -> Rule:
        """The rule that ``body`` wrote: plans survive restarts through the same model that read the YAML."""
        return cls.model_validate_json(body)

    def step_id(self, index: int) -> str:
        """The id of the step at ``index``: its own, or ``step<index>``."""
        return self.steps[index].id or f"step{index}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the steps act on, each once, in order."""
        return tuple(dict.fromkeys(step.target for step in self.steps))


def guard_name(entry: Mapping[str, Any]) -> str:
    """The name in a single-key guard entry."""
    return next(iter(entry))


def guard_parameters(kind: type[Guard], value: Any) -> Any:
    """What ``kind`` is to be read from, given the value of its entry: a map, nothing, or its shorthand.

    ``cooldown: 10m`` is short for ``cooldown: {for: 10m}``. Any other value is returned as it is, for the model
    to refuse.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if value is None:
        return {}
    return value if kind.shorthand is None else {kind.shorthand: value}
