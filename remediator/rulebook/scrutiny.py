"""What is wrong with one rule beyond its form: names that do not exist, parameters, expressions, permissions.

Works on the data as it was written, not on the model: a rule with a misspelt key still gets all its other
problems reported. Whatever passed once is not looked at again, so that ten thousand similar rules load fast.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from remediator.action import Action
from remediator.clock import parse_duration
from remediator.document import Document, Path
from remediator.errors import InputError
from remediator.expression import CONDITION, IF, LATER_IF, LEASE, UNTIL, Expression, ExpressionError
from remediator.matcher import MatcherError, parse_matchers
from remediator.placeholder import MARK, Placeholder, PlaceholderError, examine, holds
from remediator.probe import Probe
from remediator.problem import Problem, nearest
from remediator.rule import Registry, guard_parameters
from remediator.target import Target
from remediator.validation import model_problems

LATER = {
    ("steps", "if"): "write the condition as if: on the remedy",
    ("finally", "if"): "a final step runs in any case; put what depends into a remedy",
}
"""Keys of a coming version, each with the key it stands under, and what to write until then."""


class Scrutiny:
    """Looks at rules one after the other; ``targets`` is None where the settings are not known."""

    def __init__(
        self, registry: Registry, targets: Mapping[str, Target] | None, policies: Collection[str] | None = None
    ) -> None:
        self._registry = registry
        self._policies = policies
        self._targets = targets
        self._good: set[Any] = set()

    def problems(
        self, document: Document, path: Path, raw: Mapping[str, Any], unwritten: Iterable[str] = ()
    ) -> list[Problem]:
        """Everything wrong with the rule ``raw`` that stands at ``path``, besides its form.

        ``unwritten`` are ids of composites that could not be written out: that they see nothing was told.
        """
        return list(self._problems(document, path, raw, tuple(unwritten)))

    def _problems(
        self, document: Document, path: Path, raw: Mapping[str, Any], unwritten: tuple[str, ...]
    ) -> Iterator[Problem]:
        own = tuple(str(entry.get("id")) for _, entry in _maps(raw, "probes"))
        probes = own + unwritten
        when = raw.get("when")
        yield from self._places(document, path, raw, ("name",))
        if isinstance(when, Mapping):
            yield from self._matchers(document, (*path, "when"), when)
            yield from self._expression(document, (*path, "when", "condition"), when.get("condition"), CONDITION)
        for index, entry in _entries(raw, "guards"):
            yield from self._guard(document, (*path, "guards", index), entry, probes)
        yield from _duplicates(document, (*path, "probes"), own, "probe/duplicate", "probe")
        for index, entry in _maps(raw, "probes"):
            yield from self._call(document, (*path, "probes", index), entry, "probe", probes[:index], ())
        yield from self._expression(document, (*path, "if"), raw.get("if"), IF, probes)
        ids: list[str] = []
        if "steps" in raw:
            yield from self._remedy(document, path, raw, probes, ids)
        for index, remedy in _maps(raw, "remedies"):
            at: Path = (*path, "remedies", index)
            yield from self._places(document, at, remedy, ("name",))
            yield from self._expression(document, (*at, "if"), remedy.get("if"), LATER_IF, probes, tuple(ids))
            yield from self._remedy(document, at, remedy, probes, ids)
        yield from self._steps(document, (*path, "finally"), raw, "finally", probes, ids)
        yield from self._escalate(document, path, raw.get("escalate"))
        yield from _positive(document, path, raw, ("max_age",))

    def _escalate(self, document: Document, path: Path, name: Any) -> Iterator[Problem]:
        """The policy that the rule names: found missing now, and not when people are needed."""
        if not isinstance(name, str) or not name or self._policies is None or name in self._policies:
            return
        hint = nearest(name, self._policies) or "define it under escalations: in the settings"
        message = f'no escalation policy is named "{name}"'
        yield document.problem((*path, "escalate"), "escalation/unknown", message, hint=hint)

    def _remedy(
        self, document: Document, path: Path, raw: Mapping[str, Any], probes: tuple[str, ...], ids: list[str]
    ) -> Iterator[Problem]:
        """The steps and the verification of one remedy, or of a rule that is one; adds the steps' ids to ``ids``."""
        yield from self._steps(document, (*path, "steps"), raw, "steps", probes, ids)
        if isinstance(verify := raw.get("verify"), Mapping):
            until = (*path, "verify", "until")
            yield from self._expression(document, until, verify.get("until"), UNTIL, probes, tuple(ids))
            yield from _verify_times(document, (*path, "verify"), verify)

    def _steps(
        self,
        document: Document,
        path: Path,
        raw: Mapping[str, Any],
        key: str,
        probes: tuple[str, ...],
        ids: list[str],
    ) -> Iterator[Problem]:
        for index, step in _maps(raw, key):
            name = str(step.get("id") or f"step{len(ids)}")
            if name in ids and name != "None":
                message = f'a second step has the id "{name}"'
                yield document.problem((*path, index, "id"), "step/duplicate", message)
            at: Path = (*path, index)
            yield from self._call(document, at, step, "action", probes, tuple(ids))
            yield from self._wait(document, (*at, "wait"), step.get("wait"), probes, tuple(ids))
            yield from self._lease(document, (*at, "lease"), step, key, probes)
            ids.append(name)

    def _wait(
        self, document: Document, path: Path, wait: Any, probes: tuple[str, ...], steps: tuple[str, ...]
    ) -> Iterator[Problem]:
        if isinstance(wait, Mapping):
            yield from self._expression(document, (*path, "until"), wait.get("until"), UNTIL, probes, steps)
            yield from _verify_times(document, path, wait)
            yield from _positive(document, path, wait, ("for",))
        elif isinstance(wait, str) and _seconds({"wait": wait}, "wait") == 0:
            yield document.problem(path, "value/invalid", "wait must be longer than 0s")

    def _lease(
        self, document: Document, path: Path, step: Mapping[str, Any], key: str, probes: tuple[str, ...]
    ) -> Iterator[Problem]:
        """A temporary change needs a way back, and an end."""
        lease = step.get("lease")
        if not isinstance(lease, Mapping):
            return
        if key == "finally":
            message = "a final step puts things in order; its change cannot be temporary"
            yield document.problem(path, "lease/place", message, hint="leave lease out")
        uses = step.get("uses")
        kind = self._registry.action(uses) if isinstance(uses, str) else None
        if kind is not None and not self._reversible(kind, step):
            message = f"nothing puts back what {uses} does here, so it cannot be temporary"
            yield document.problem(path, "lease/irreversible", message, hint="leave lease out, or use another action")
        yield from self._expression(document, (*path, "until"), lease.get("until"), LEASE, probes)
        yield from _positive(document, path, lease, ("at_most", "every"))
        settle, most = _seconds(lease, "settle"), _seconds(lease, "at_most")
        if settle and most and settle > most:
            message = f"staying resolved for {lease['settle']} cannot happen within {lease['at_most']}"
            yield document.problem((*path, "settle"), "lease/settle", message, hint="make settle shorter than at_most")

    def _reversible(self, kind: type[Action[Any]], step: Mapping[str, Any]) -> bool:
        """Whether a step has a way back; what is filled in later is asked then."""
        target = (self._targets or {}).get(str(step.get("target")))
        given = step.get("with", {})
        if kind.inverse is Action.inverse or target is None or self._wrong_kind(str(step["uses"]), "", target):
            return kind.inverse is not Action.inverse
        try:
            return kind.model_validate(dict(given)).reversible(target)
        except (ValidationError, TypeError, ValueError):
            return True

    def _places(
        self, document: Document, path: Path, raw: Mapping[str, Any], keys: tuple[str, ...]
    ) -> Iterator[Problem]:
        """Placeholders where a name must stand: what is acted on is never made of an alert's text."""
        for key in keys:
            if isinstance(value := raw.get(key), str) and MARK in value:
                yield document.problem(
                    (*path, key),
                    "placeholder/place",
                    f"a placeholder cannot stand in {key}",
                    hint="placeholders fill parameters, inside with:",
                )

    def _matchers(self, document: Document, path: Path, when: Mapping[str, Any]) -> Iterator[Problem]:
        for index, text in _entries(when, "matchers"):
            if not isinstance(text, str):
                continue
            try:
                parse_matchers(text)
            except MatcherError as error:
                yield document.problem(
                    (*path, "matchers", index),
                    "matcher/invalid",
                    error.message,
                    hint=error.hint,
                    needle=text,
                    offset=error.offset,
                )

    def _expression(
        self,
        document: Document,
        path: Path,
        source: Any,
        names: frozenset[str],
        probes: tuple[str, ...] = (),
        steps: tuple[str, ...] = (),
    ) -> Iterator[Problem]:
        key = (source, names, probes, steps) if isinstance(source, str) else None
        if key is None or key in self._good:
            return
        try:
            Expression.compile(source, names, probes=probes, steps=steps)
            self._good.add(key)
        except ExpressionError as error:
            yield document.problem(
                path, "expression/invalid", error.message, hint=error.hint, needle=source, offset=error.offset
            )

    def _guard(self, document: Document, path: Path, entry: Any, probes: tuple[str, ...]) -> Iterator[Problem]:
        if not isinstance(entry, Mapping):
            return
        if len(entry) != 1:
            message = f"a guard is a map with one key, its name; this one has {len(entry)}"
            yield document.problem(
                path, "guard/form", message, hint="write each guard as its own item: - cooldown: 10m"
            )
            return
        name, value = next(iter(entry.items()))
        key = ("guard", name, repr(value))
        if key in self._good:
            return
        kind = self._registry.guard(name)
        if kind is None:
            hint = nearest(name, self._registry.names("guards"))
            yield document.problem((*path, name), "guard/unknown", f'no guard is named "{name}"', hint=hint, key=True)
            return
        try:
            made = kind.model_validate(guard_parameters(kind, value))
        except ValidationError as error:
            yield from model_problems(document, (*path, name), kind, error)
            return
        if not made.reads():
            self._good.add(key)
        for probe in sorted({*made.reads()} - {*probes}):
            message = f'guard {name} reads the probe "{probe}", which this rule does not have'
            hint = nearest(probe, probes) or "write it under probes: of the rule"
            yield document.problem((*path, name), "guard/probe", message, hint=hint, key=True)

    def _call(
        self,
        document: Document,
        path: Path,
        call: Mapping[str, Any],
        family: str,
        probes: tuple[str, ...],
        steps: tuple[str, ...],
    ) -> Iterator[Problem]:
        """A probe or a step: what it uses, on which target, with which parameters."""
        yield from self._places(document, path, call, ("id", "uses", "target"))
        yield from _positive(document, path, call, ("timeout",))
        uses, target_name, given = call.get("uses"), call.get("target"), call.get("with", {})
        if not isinstance(uses, str) or MARK in uses:
            return
        kind = self._registry.action(uses) if family == "action" else self._registry.probe(uses)
        if kind is None:
            # A composite that is left has problems of its own, which were told.
            if family == "probe" or self._registry.composite(uses) is None:
                yield self._unknown_use(document, path, uses, family)
            return
        target = None
        if isinstance(target_name, str) and MARK not in target_name and self._targets is not None:
            target = self._targets.get(target_name)
            if target is None:
                message, hint = f'no target is named "{target_name}"', nearest(target_name, self._targets)
                hint = hint or "define it under targets: in the settings"
                yield document.problem((*path, "target"), "target/unknown", message, hint=hint)
            elif (wrong := self._wrong_kind(uses, target_name, target)) is not None:
                yield document.problem((*path, "target"), "target/kind", wrong)
                target = None
        if isinstance(given, Mapping):
            yield from self._parameters(document, path, uses, kind, given, target, probes, steps)

    def _unknown_use(self, document: Document, path: Path, uses: str, family: str) -> Problem:
        other, of_other = ("probe", self._registry.probe) if family == "action" else ("action", self._registry.action)
        if self._registry.composite(uses) is not None:
            hint = f'"{uses}" stands for a probe and a step; write it under steps:'
        elif of_other(uses) is not None:
            where = "probes" if other == "probe" else "steps"
            hint = f'"{uses}" is {"an action" if other == "action" else "a probe"}; write it under {where}:'
        else:
            hint = nearest(uses, self._registry.names(f"{family}s"))
        return document.problem((*path, "uses"), f"{family}/unknown", f'no {family} is named "{uses}"', hint=hint)

    def _wrong_kind(self, uses: str, name: str, target: Target) -> str | None:
        kind = uses.partition(".")[0]
        wanted = self._registry.target_kind(kind)
        if wanted is None or isinstance(target, wanted):
            return None
        its = next(
            (k for k in self._registry.names("targets") if type(target) is self._registry.target_kind(k)), "another"
        )
        return f'target "{name}" is of kind {its}; {uses} needs one of kind {kind}'

    def _parameters(
        self,
        document: Document,
        path: Path,
        uses: str,
        kind: type[Action[Any]] | type[Probe[Any]],
        given: Mapping[str, Any],
        target: Target | None,
        probes: tuple[str, ...],
        steps: tuple[str, ...],
    ) -> Iterator[Problem]:
        at: Path = (*path, "with")
        filled = examine(given) if holds(given) else ()
        key = (uses, target.name if target is not None else None, repr(given))
        if filled:
            yield from self._placeholders(document, at, uses, kind, filled, probes, steps)
        elif key in self._good:
            return
        try:
            made = kind.model_validate(dict(given))
        except ValidationError as error:
            yield from model_problems(document, at, kind, error, ignore=[found.path for found in filled])
            made = None
        if target is not None and (refusal := _refusal(target, uses, made, bool(filled))) is not None:
            hint = f"list it under targets.{target.name}.permit in the settings"
            yield document.problem((*path, "uses"), "target/permit", refusal, hint=hint)
        elif made is not None:
            self._good.add(key)

    def _placeholders(
        self,
        document: Document,
        at: Path,
        uses: str,
        kind: type[BaseModel],
        filled: tuple[Placeholder | PlaceholderError, ...],
        probes: tuple[str, ...],
        steps: tuple[str, ...],
    ) -> Iterator[Problem]:
        literal: frozenset[str] = getattr(kind, "literal", frozenset())
        known = {"probes": probes, "steps": steps}
        for found in filled:
            place = at + found.path
            if isinstance(found, PlaceholderError):
                yield document.problem(place, "placeholder/invalid", str(found), needle=found.text, offset=found.offset)
            elif found.path and found.path[0] in literal:
                message = f"{found.path[0]} of {uses} is code, so nothing of an alert may be put into it"
                yield document.problem(
                    place, "placeholder/literal", message, needle=found.text, offset=found.offset,
                    hint="write it out; the page of the action or probe says how to pass values to it",
                )  # fmt: skip
            elif found.root in known and found.keys[0] not in known[found.root]:
                word = str(found.keys[0])
                what = "no probe has" if found.root == "probes" else "no earlier step has"
                message = f'{what} the id "{word}"'
                if found.root == "probes" and "probes" in at:
                    message = f'no probe before this one has the id "{word}"'
                hint = nearest(word, known[found.root])
                yield document.problem(
                    place, "placeholder/unknown", message, hint=hint, needle=found.text, offset=found.offset
                )


def _refusal(target: Target, uses: str, made: Any, filled: bool) -> str | None:
    """Why the target does not permit this, as far as it can be known before placeholders are filled in."""
    if made is None or filled:
        # The name of the action is known in any case; what else it needs is checked when it is filled in.
        return target.refusal(uses, {})
    needs = made.needs()
    return target.refusal(uses, needs)


def _entries(raw: Mapping[str, Any], key: str) -> Iterator[tuple[int, Any]]:
    value = raw.get(key)
    return enumerate(value) if isinstance(value, list) else iter(())


def _maps(raw: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return ((index, entry) for index, entry in _entries(raw, key) if isinstance(entry, Mapping))


def _duplicates(document: Document, path: Path, ids: tuple[str, ...], problem_id: str, what: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(ids):
        if name in seen and name != "None":
            yield document.problem((*path, index, "id"), problem_id, f'a second {what} has the id "{name}"')
        seen.add(name)


def _seconds(raw: Mapping[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if not isinstance(value, str):
        return None
    try:
        return parse_duration(value)
    except InputError:
        return None  # The model reports it.


def _positive(document: Document, path: Path, raw: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[Problem]:
    for key in keys:
        if _seconds(raw, key) == 0:
            yield document.problem((*path, key), "value/invalid", f"{key} must be longer than 0s")


def _verify_times(document: Document, path: Path, verify: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _positive(document, path, verify, ("within", "every"))
    within, every = _seconds(verify, "within"), _seconds(verify, "every")
    if within and every and every > within:
        message = f"looking again every {verify['every']} never happens within {verify['within']}"
        yield document.problem((*path, "every"), "verify/every", message, hint="make every shorter than within")
