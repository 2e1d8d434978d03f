"""From a rule to a plan, and from a plan and evidence to the next action: pure, reads nothing and writes nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from remediator.action import Action, canonical_json
from remediator.errors import InputError
from remediator.expression import CONDITION, IF, LATER_IF, UNTIL, Expression
from remediator.guard import Guard
from remediator.guards.approval import Approval
from remediator.incident import Incident
from remediator.placeholder import fill, find, holds
from remediator.probe import Probe
from remediator.rule import Mode, ProbeCall, Registry, Rule, Step, Verify, guard_name, guard_parameters
from remediator.run import Lock
from remediator.target import Target


@dataclass(frozen=True, slots=True)
class Trial:
    """One remedy made ready. ``span`` are the indexes of its steps in the rule's script."""

    name: str
    keep: bool
    span: range
    if_: Expression | None
    until: Expression | None
    verify: Verify | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A rule with its guards and expressions made ready; fixed by the digest of the rule."""

    rule: Rule
    guards: tuple[tuple[str, Guard], ...]
    condition: Expression | None
    if_: Expression | None
    trials: tuple[Trial, ...]
    waits: Mapping[int, Expression]
    """What steps wait for, by their index."""

    @property
    def final(self) -> range:
        """The indexes of the steps that run however the remedies end."""
        return self.rule.spans[-1]

    @property
    def approval(self) -> Approval | None:
        """The rule's own approval guard, if it has one."""
        return next((guard for _, guard in self.guards if isinstance(guard, Approval)), None)


def make_guard(entry: Mapping[str, Any], registry: Registry) -> tuple[str, Guard]:
    """Name and guard of a single-key entry such as ``{"cooldown": "10m"}``. Raises InputError."""
    name = guard_name(entry)
    kind = registry.guard(name)
    if kind is None:
        raise InputError(f'no guard is named "{name}"')
    return name, _validated(kind, guard_parameters(kind, entry[name]), f"guard {name}")


def watched(rules: Iterable[Rule], registry: Registry, more_guards: Sequence[Mapping[str, Any]] = ()) -> set[str]:
    """Matchers of the alerts that guards of these rules, or of the settings, look at. Raises InputError."""
    entries = [*more_guards, *(entry for rule in rules for entry in rule.guards)]
    distinct = {canonical_json(entry): entry for entry in entries}.values()
    return {text for entry in distinct for text in make_guard(entry, registry)[1].watches()}


def make_plan(rule: Rule, registry: Registry, more_guards: Sequence[Mapping[str, Any]] = ()) -> Plan:
    """The plan of ``rule``; ``more_guards`` are those that the settings add to every rule. Raises InputError."""
    probes = [probe.id for probe in rule.probes]
    ids = [rule.step_id(index) for index in range(len(rule.script))]
    trials = []
    for remedy, span in zip(rule.tries, rule.spans, strict=False):
        until = remedy.verify.until if remedy.verify else None
        before, so_far = ids[: span.start], ids[: span.stop]
        trials.append(
            Trial(
                remedy.name,
                remedy.keep,
                span,
                Expression.compile(remedy.if_, LATER_IF, probes=probes, steps=before) if remedy.if_ else None,
                Expression.compile(until, UNTIL, probes=probes, steps=so_far) if until else None,
                remedy.verify,
            )
        )
    waits = {
        index: Expression.compile(step.wait.until, UNTIL, probes=probes, steps=ids[:index])
        for index, step in enumerate(rule.script)
        if step.wait is not None and step.wait.until is not None
    }
    return Plan(
        rule,
        tuple(make_guard(entry, registry) for entry in [*more_guards, *rule.guards]),
        Expression.compile(rule.when.condition, CONDITION) if rule.when.condition else None,
        Expression.compile(rule.if_, IF, probes=probes) if rule.if_ else None,
        tuple(trials),
        waits,
    )


class Plans:
    """Plans by rule digest, made once; the most recently used thousand are kept.

    ``more_guards`` stand before every rule's own, ``of_service`` before those of the rules of one service.
    """

    def __init__(
        self,
        registry: Registry,
        more_guards: Sequence[Mapping[str, Any]] = (),
        of_service: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._registry = registry
        self._more_guards = more_guards
        self._of_service = of_service or {}
        self._made: OrderedDict[str, Plan] = OrderedDict()

    def get(self, digest: str) -> Plan | None:
        """The plan if it was made before."""
        return self._made.get(digest)

    def make(self, rule: Rule) -> Plan:
        """The plan of ``rule``. Raises InputError."""
        plan = self._made.get(rule.digest)
        if plan is None:
            more = [*self._more_guards, *self._of_service.get(rule.service, ())]
            plan = self._made[rule.digest] = make_plan(rule, self._registry, more)
            if len(self._made) > 1000:
                self._made.popitem(last=False)
        return plan


def environment(
    incident: Incident, severity: str, progress: Mapping[str, Any], *, now: float
) -> dict[str, Any]:
    """What expressions and placeholders can see of an incident and of what the run has learnt so far.

    A probe that failed is absent, so that reading it is an error, and an error is a no.
    """
    evidence = progress.get("evidence", {})
    return {
        "labels": dict(incident.common_labels),
        "annotations": dict(incident.annotations),
        "alerts": [
            {
                "status": "resolved" if member.ended_at is not None else "firing",
                "labels": dict(member.labels),
                "annotations": dict(member.annotations),
                "starts_at": member.min_start,
            }
            for member in incident.members.values()
        ],
        "count": len(incident.firing()),
        "alert": {
            # A life that was cut short by the next one has not been seen to go: that is no proof of a cure.
            "resolved": not incident.open and not incident.superseded,
            "firing": incident.open,
            "for_seconds": max(0.0, now - incident.opened_at),
        },
        "severity": severity,
        "probes": {name: seen["value"] for name, seen in evidence.items() if seen["ok"]},
        "steps": {
            step["id"]: step.get("outcome", {}).get("data", {})
            for step in progress.get("steps", ())
            if step["state"] == "done"
        },
    }


def make_action(step: Step, known: Mapping[str, Any], registry: Registry) -> Action[Any]:
    """The action of ``step`` with its placeholders filled from ``known``. Raises InputError."""
    kind = registry.action(step.uses)
    if kind is None:
        raise InputError(f'no action is named "{step.uses}"')
    action: Action[Any] = _validated(kind, _filled(step.with_, known), step.uses)
    return action


def make_probe(call: ProbeCall, known: Mapping[str, Any], registry: Registry) -> Probe[Any]:
    """The probe of ``call`` with its placeholders filled from ``known``. Raises InputError."""
    kind = registry.probe(call.uses)
    if kind is None:
        raise InputError(f'no probe is named "{call.uses}"')
    probe: Probe[Any] = _validated(kind, _filled(call.with_, known), call.uses)
    return probe


def waves(calls: Sequence[ProbeCall]) -> Iterator[list[ProbeCall]]:
    """Probes in the order in which they look: those of one list at the same time, after those that they read.

    A probe reads only probes that stand before it, so there is always a next one. Raises PlaceholderError.
    """
    left = [(call, _reads(call)) for call in calls]
    while left:
        waiting = {call.id for call, _ in left}
        # The first one never waits: what stands before it has looked already.
        now = [call for place, (call, reads) in enumerate(left) if not place or not reads & waiting]
        yield now
        left = [(call, reads) for call, reads in left if call not in now]


def needed(calls: Sequence[ProbeCall], ids: Iterable[str]) -> list[ProbeCall]:
    """The probes of these ids and those that they read, in the order of ``calls``. Raises PlaceholderError."""
    wanted = set(ids)
    found = []
    for call in reversed(calls):
        if call.id in wanted:
            found.append(call)
            wanted |= _reads(call)
    return found[::-1]


def _reads(call: ProbeCall) -> set[str]:
    return {str(found.keys[0]) for found in find(call.with_) if found.root == "probes"}


def _filled(value: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    if not holds(value):
        return value
    result: dict[str, Any] = fill(value, known)
    return result


def _validated(kind: Any, value: Any, what: str) -> Any:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "parameters"
        raise InputError(f"{what}: {where}: {first['msg']}") from None


def locks(rule: Rule, registry: Registry, targets: Mapping[str, Target]) -> tuple[Lock, ...]:
    """What runs of ``rule`` must be alone to act on.

    The subject of a step whose parameters are all written out, the whole target where a placeholder decides later.
    """
    found: dict[tuple[str, str], Lock] = {}
    for step in rule.script:
        if not step.uses:
            continue
        target = targets.get(step.target)
        most = target.max_runs if target else 1
        subject = "" if holds(step.with_) else _subject(step, registry)
        found[(step.target, subject)] = Lock(step.target, subject, most)
    return tuple(found.values())


def _subject(step: Step, registry: Registry) -> str:
    try:
        return make_action(step, {}, registry).subject()
    except InputError:
        return ""


def effective_mode(rule: Rule, most: Mode) -> Mode:
    """How far the rule may go here: its own mode, and never above ``most``."""
    return rule.mode.at_most(most)
