"""A rule as the SRE wrote it: the grammar of ``rules/*.yaml`` as models, and the rule's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from remediator.action import Action, canonical_json
from remediator.clock import Duration
from remediator.composite import Composite
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

    def composite(self, name: str) -> type[Composite] | None:
        """The composite of that name, or None."""
        ...

    def guard(self, name: str) -> type[Guard] | None:
        """The guard of that name, or None."""
        ...

    def target_kind(self, kind: str) -> type[Target] | None:
        """The kind of target, which is the name of its integration, or None."""
        ...

    def names(self, family: str) -> Sequence[str]:
        """All names of ``actions``, ``probes``, ``composites``, ``guards`` or ``targets`` (kinds)."""
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


class Lease(_Part):
    """How long a change may stay that is only meant to help over a problem."""

    until: str | None = Field(
        default=None,
        description="CEL over labels, probes, alert; it goes back once this has held for `settle`. Absent: once the "
        "alert has stayed resolved so long.",
    )
    every: Duration | None = Field(default=None, description="How often to look whether `until` holds; `1m` if absent.")
    settle: Duration = Field(
        default=900.0, description="It goes back once the alert has stayed resolved, or `until` has held, this long."
    )
    at_most: Duration = Field(description="It goes back after this long in any case.")

    @model_validator(mode="after")
    def _looks(self) -> Lease:
        if self.every is not None and self.until is None:
            raise ValueError("every says how often to look whether until holds; write until, or leave every out")
        return self


class Wait(_Part):
    """A step that does nothing, for a time or until something is so. Survives restarts."""

    for_: Duration | None = Field(default=None, alias="for", description="How long: `wait: 15m` is short for this.")
    until: str | None = Field(default=None, description="CEL over labels, probes, steps, alert; asked again and again.")
    within: Duration | None = Field(default=None, description="How long to wait for `until`; then the step has failed.")
    every: Duration = Field(default=15.0, description="How often to look again.")

    @model_validator(mode="after")
    def _one_kind(self) -> Wait:
        if (self.for_ is None) == (self.until is None):
            raise ValueError("write wait: 15m, or wait: {until: …, within: …}")
        if (self.until is None) != (self.within is None):
            raise ValueError("until and within go together; for stands alone")
        return self


def _wait(value: Any) -> Any:
    return {"for": value} if isinstance(value, str) else value


class Step(_Part):
    """One action on one target, or a wait."""

    id: str | None = Field(default=None, pattern=NAME, description="Name of the result: `steps.<id>`.")
    uses: str = Field(default="", pattern=f"{USES}|^$", description="The action, such as `kubernetes.scale`.")
    target: str = Field(default="", description="A target of the settings; rules hold no address and no secret.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="The action's parameters.")
    wait: Annotated[Wait | None, BeforeValidator(_wait)] = Field(
        default=None, description="Instead of an action: wait for a time, or until a condition holds."
    )
    timeout: Duration = Field(default=120.0, description="How long diff, apply and verify may each take.")
    retry: Retry = Field(default_factory=lambda: Retry(attempts=1), description="Tries after a temporary error.")
    lease: Lease | None = Field(
        default=None, description="The change is temporary and goes back by itself; absent: it stays."
    )
    causes: list[str] = Field(
        default_factory=list,
        description="Alerts that this step is expected to make fire; no rule answers them meanwhile.",
    )
    causes_for: Duration = Field(default=600.0, description="How long `causes` are expected after the step.")

    @model_validator(mode="after")
    def _act_or_wait(self) -> Step:
        if self.wait is not None and (self.uses or self.target or self.with_ or self.lease):
            raise ValueError("a step either waits or uses an action; write two steps")
        if self.wait is None and not (self.uses and self.target):
            raise ValueError("a step needs uses and target, or wait")
        return self


class Verify(_Part):
    """When the problem counts as gone."""

    until: str = Field(description="CEL; the problem is gone when it is true: `alert.resolved`.")
    within: Duration = Field(description="How long to wait for `until` before the remedy counts as ineffective.")
    every: Duration = Field(default=15.0, description="How often to look again.")
    settle: Duration = Field(
        default=0.0, description="How long `until` must hold without a break, so that a flapping alert is no cure."
    )


class Remedy(_Part):
    """Steps that may help, and how to see whether they did."""

    name: str = Field(default="", description="For people: `add workers`.")
    if_: str | None = Field(
        default=None, alias="if", description="CEL over labels, probes and earlier steps; false skips this remedy."
    )
    steps: list[Step] = Field(min_length=1, description="What to do, in order.")
    verify: Verify | None = Field(default=None, description="When the problem counts as gone.")
    keep: bool = Field(default=False, description="Leave what was changed as it is, also if it did not help.")


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
    remedies: list[Remedy] = Field(
        default_factory=list, description="What to try, in order, until the problem is gone."
    )
    steps: list[Step] = Field(default_factory=list, description="Short for one remedy: what to do, in order.")
    verify: Verify | None = Field(default=None, description="Short for one remedy: when the problem counts as gone.")
    keep: bool = Field(default=False, description="Short for one remedy: leave what was changed as it is.")
    finally_: list[Step] = Field(
        default_factory=list,
        alias="finally",
        description="Steps that run however the remedies end, once one of them has acted; also after a crash.",
    )
    escalate: str = Field(default="", description="An escalation policy of the settings, for when people are needed.")
    max_age: Duration = Field(
        default=900.0, description="A run that has not begun to act this long after it was due has expired."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Rule:
        if bool(self.remedies) == bool(self.steps):
            raise ValueError("write steps, or remedies with steps of their own")
        if self.remedies and (self.verify or self.keep):
            raise ValueError("verify and keep stand beside steps; with remedies they belong into each remedy")
        return self

    @cached_property
    def tries(self) -> tuple[Remedy, ...]:
        """What is tried, in order; a rule with steps of its own is one remedy."""
        if self.remedies:
            return tuple(self.remedies)
        return (Remedy.model_construct(name="", if_=None, steps=self.steps, verify=self.verify, keep=self.keep),)

    @cached_property
    def script(self) -> tuple[Step, ...]:
        """Every step, by the index that progress and licences use: those of all remedies, then the final ones."""
        return (*(step for remedy in self.tries for step in remedy.steps), *self.finally_)

    @cached_property
    def spans(self) -> tuple[range, ...]:
        """The indexes of each remedy's steps in ``script``, and last those of the final steps."""
        found, start = [], 0
        for steps in (*(remedy.steps for remedy in self.tries), self.finally_):
            found.append(range(start, start + len(steps)))
            start += len(steps)
        return tuple(found)

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
        return self.script[index].id or f"step{index}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the steps act on, each once, in order."""
        return tuple(dict.fromkeys(step.target for step in self.script if step.target))


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
