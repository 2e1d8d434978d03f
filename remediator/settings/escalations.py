"""What is wrong with escalation policies of the settings beyond their form; found now, not when people are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from remediator.action import Action
from remediator.document import Document, Path
from remediator.escalation import FIELDS
from remediator.expression import CALL, Expression, ExpressionError
from remediator.placeholder import MESSAGE_ROOTS, PlaceholderError, examine
from remediator.problem import Problem, nearest
from remediator.rule import Registry
from remediator.target import Target
from remediator.validation import model_problems


class Policies:
    """Looks at the calls of every policy; ``targets`` are those of the same settings."""

    def __init__(self, document: Document, registry: Registry, targets: Mapping[str, Target]) -> None:
        self._document = document
        self._registry = registry
        self._targets = targets

    def problems(self, data: Any) -> Iterator[Problem]:
        """Everything wrong with ``escalations:`` besides its form."""
        for name, calls in data.items() if isinstance(data, Mapping) else ():
            path: Path = ("escalations", name)
            if calls == []:
                yield self._document.problem(path, "escalation/empty", "this policy calls nobody", hint="add a call")
            for index, call in enumerate(calls) if isinstance(calls, list) else ():
                if isinstance(call, Mapping):
                    yield from self._call((*path, index), call)

    def named(self, path: Path, name: Any, data: Any) -> Iterator[Problem]:
        """A name of a policy that stands elsewhere in the settings."""
        names = list(data) if isinstance(data, Mapping) else []
        if isinstance(name, str) and name and name not in names:
            hint = nearest(name, names) or "define it under escalations:"
            message = f'no escalation policy is named "{name}"'
            yield self._document.problem(path, "escalation/unknown", message, hint=hint)

    def _call(self, path: Path, call: Mapping[str, Any]) -> Iterator[Problem]:
        yield from self._condition((*path, "if"), call.get("if"))
        uses, target_name = call.get("uses"), call.get("target")
        if not isinstance(uses, str):
            return
        kind = self._registry.action(uses)
        if kind is None:
            hint = nearest(uses, self._registry.names("actions"))
            message = f'no action is named "{uses}"'
            yield self._document.problem((*path, "uses"), "action/unknown", message, hint=hint)
            return
        target = self._targets.get(target_name) if isinstance(target_name, str) else None
        if target is None and isinstance(target_name, str):
            hint = nearest(target_name, self._targets) or "define it under targets:"
            message = f'no target is named "{target_name}"'
            yield self._document.problem((*path, "target"), "target/unknown", message, hint=hint)
        elif target is not None and not isinstance(target, self._wanted(uses)):
            system = uses.partition(".")[0]
            message = f'target "{target_name}" is of another kind; {uses} needs one of kind {system}'
            yield self._document.problem((*path, "target"), "target/kind", message)
            target = None
        given = call.get("with", {})
        if not isinstance(given, Mapping):
            return
        yield from self._parameters(path, (*path, "with"), uses, kind, given, {}, target)
        over = call.get("on_resolve")
        if isinstance(over, Mapping):
            yield from self._parameters(path, (*path, "on_resolve"), uses, kind, over, given, target)

    def _wanted(self, uses: str) -> type[Target]:
        return self._registry.target_kind(uses.partition(".")[0]) or Target

    def _condition(self, path: Path, source: Any) -> Iterator[Problem]:
        if not isinstance(source, str):
            return
        try:
            Expression.compile(source, CALL)
        except ExpressionError as error:
            yield self._document.problem(
                path, "expression/invalid", error.message, hint=error.hint, needle=source, offset=error.offset
            )

    def _parameters(
        self,
        call: Path,
        path: Path,
        uses: str,
        kind: type[Action[Any]],
        given: Mapping[str, Any],
        under: Mapping[str, Any],
        target: Target | None,
    ) -> Iterator[Problem]:
        """Parameters ``given`` over those of ``under``, as far as they can be told without an alert."""
        found = examine(dict(given), MESSAGE_ROOTS)
        for one in found:
            yield from self._placeholder(path, uses, kind, one)
        below = [one.path for one in examine(dict(under), MESSAGE_ROOTS)]
        made = None
        try:
            made = kind.model_validate({**under, **given})
        except ValidationError as error:
            ignored = [one.path for one in found] + below + [(key,) for key in under if key not in given]
            yield from model_problems(self._document, path, kind, error, ignore=ignored)
        if target is not None:
            needs = made.needs() if made is not None and not found and not below else {}
            refusal = target.refusal(uses, needs)
            if refusal is not None:
                hint = f"list it under targets.{target.name}.permit"
                yield self._document.problem((*call, "uses"), "target/permit", refusal, hint=hint)

    def _placeholder(self, path: Path, uses: str, kind: type[Action[Any]], found: Any) -> Iterator[Problem]:
        place: Path = path + found.path
        if isinstance(found, PlaceholderError):
            yield self._document.problem(
                place, "placeholder/invalid", str(found), needle=found.text, offset=found.offset
            )
        elif found.path and found.path[0] in kind.literal:
            message = f"{found.path[0]} of {uses} takes no placeholder, so that nothing of an alert gets into it"
            yield self._document.problem(
                place, "placeholder/literal", message, hint="write it out", needle=found.text, offset=found.offset
            )
        elif found.root in FIELDS and found.keys[0] not in FIELDS[found.root]:
            word = str(found.keys[0])
            hint = nearest(word, FIELDS[found.root]) or f"there are {', '.join(FIELDS[found.root])}"
            message = f"nothing is named {found.root}.{word}"
            yield self._document.problem(
                place, "placeholder/unknown", message, hint=hint, needle=found.text, offset=found.offset
            )
