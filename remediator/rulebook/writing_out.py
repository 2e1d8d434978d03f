"""Writes composites out before a rule is read: each becomes a probe and an ordinary step, and problems point at it.

What is stored, shown and carried out is the rule as it was written out; nothing behind the rulebook knows composites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from remediator.composite import Composite, Place, Written
from remediator.document import Document, Mark, Path
from remediator.errors import InputError
from remediator.problem import Problem
from remediator.rule import Registry
from remediator.validation import model_problems


class Out(NamedTuple):
    """A rule without composites, the document in which its problems are placed, and what was wrong with them."""

    entry: dict[str, Any]
    document: Document
    problems: list[Problem]
    unwritten: list[str]
    """Ids of composites that have a problem."""


class _Traced(Document):
    """A document of which one rule was written out of another text: places lead back to what a person wrote."""

    __slots__ = ("_origins",)

    def __init__(self, document: Document, path: Path, entry: Any, origins: Mapping[Path, Path]) -> None:
        super().__init__(document.file, document.text, _nested(path, entry))
        self._origins = origins

    def place(self, path: Path, *, key: bool = False, needle: str = "", offset: int = 0) -> Mark:
        """Where the person wrote what became the value at ``path``."""
        for length in range(len(path), -1, -1):
            origin = self._origins.get(path[:length])
            if origin is not None:
                path = origin + path[length:]
                break
        return super().place(path, key=key, needle=needle, offset=offset)


def _nested(path: Path, entry: Any) -> Any:
    for part in reversed(path):
        entry = {part: entry}
    return entry


def write_out(document: Document, path: Path, entry: dict[str, Any], registry: Registry) -> Out:
    """``entry``, the rule at ``path``, with every composite written out; itself where there is none.

    A composite with a problem is told and left out, so that the rest of the rule can still be looked at.
    """
    found = [(at, step, kind) for at, step in _steps(entry) if (kind := _kind(step, registry)) is not None]
    if not found or not isinstance(entry.get("probes", []), list):
        # Probes that are no list are told with the form of the rule.
        return Out(entry, document, [], [str(step.get("id")) for _, step, _ in found])
    entry = _copy(entry)
    probes: list[Any] = entry.setdefault("probes", [])
    origins: dict[Path, Path] = {}
    problems: list[Problem] = []
    unwritten: list[str] = []
    for at, step, kind in found:
        written = _written(document, path + at, step, kind, problems)
        if written is None:
            unwritten.append(str(step.get("id")))
            continue
        probe = {"id": step["id"], **written.probe}
        place: Path = ("probes", len(probes))
        probes.append(probe)
        origins[path + place] = path + at
        origins |= {path + place + key: path + at + value for key, value in written.probe_from.items()}
        origins |= {path + at + key: path + at + value for key, value in written.step_from.items()}
        _holder(entry, at)[at[-1]] = {"id": step["id"], **written.step}
    return Out(entry, _Traced(document, path, entry, origins), problems, unwritten)


def _kind(step: Any, registry: Registry) -> type[Composite] | None:
    uses = step.get("uses") if isinstance(step, Mapping) else None
    return registry.composite(uses) if isinstance(uses, str) else None


def _steps(entry: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every step of a rule that may still have any form, with its place."""
    for key in ("steps", "finally"):
        if isinstance(steps := entry.get(key), list):
            yield from (((key, index), step) for index, step in enumerate(steps))
    if isinstance(remedies := entry.get("remedies"), list):
        for number, remedy in enumerate(remedies):
            if isinstance(remedy, Mapping) and isinstance(steps := remedy.get("steps"), list):
                yield from ((("remedies", number, "steps", index), step) for index, step in enumerate(steps))


def _copy(value: Any) -> Any:
    """Maps and lists anew; what stands in them is never changed."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _holder(entry: Any, at: Place) -> Any:
    for part in at[:-1]:
        entry = entry[part]
    return entry


def _written(
    document: Document, at: Path, step: Mapping[str, Any], kind: type[Composite], problems: list[Problem]
) -> Written | None:
    uses = step["uses"]
    if not isinstance(step.get("id"), str):
        message = f"{uses} needs an id: what it sees is read as probes.<id>"
        problems.append(document.problem(at, "composite/invalid", message, hint="write id: and a name"))
        return None
    if not isinstance(step.get("with"), Mapping):
        problems.append(document.problem(at, "composite/invalid", f"{uses} needs its parameters under with:"))
        return None
    try:
        return kind.model_validate(step["with"], by_alias=True, by_name=False).write_out(step)
    except ValidationError as error:
        problems += model_problems(document, (*at, "with"), kind, error)
    except InputError as error:
        problems.append(document.problem(at, "composite/invalid", f"{uses}: {error}"))
    return None
