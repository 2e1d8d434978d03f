"""pydantic's findings in our words, at the place in the file where a person must change something."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from remediator.clock import format_duration, parse_duration
from remediator.document import Document, Path
from remediator.errors import InputError
from remediator.problem import Problem, nearest

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "mapping_type": "a map",
}
EXPOSED = "settings/secret"
"""The id of problems whose line must not be shown."""
_SECRET = re.compile(r"(?i)token|secret|passw|credential|api_?key|private_?key")
_ALWAYS = ("extra_forbidden", "missing")
"""Findings about keys, which no placeholder in a value can be the reason for."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def found(value: Any) -> str:
    """``value`` as a person would name it in a report, cut to a short length."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f'"{value[:60]}{"…" if len(value) > 60 else ""}"'
    return f"the number {value}"


def field_names(model: type[BaseModel]) -> list[str]:
    """The keys that ``model`` takes in a file: aliases where there are any, none that a program fills in."""
    return [
        field.alias or name
        for name, field in model.model_fields.items()
        if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("readOnly"))
    ]


def model_problems(
    document: Document,
    path: Path,
    model: type[BaseModel],
    error: ValidationError,
    *,
    ignore: Iterable[Path] = (),
    later: Mapping[tuple[str, str], str] | None = None,
    later_id: str = "rule/later",
) -> list[Problem]:
    """One problem for each finding of ``error``, made when the data at ``path`` was read as ``model``.

    Findings at or around the paths in ``ignore`` (relative to ``path``; values with placeholders) are left
    out. ``later`` maps keys that exist in a coming version to what to write until then.
    """
    skipped = tuple(ignore)
    out: list[Problem] = []
    said: set[tuple[Path, str]] = set()
    for detail in error.errors(include_url=False, include_context=True):
        loc = _real(document, path, detail["loc"])
        if detail["type"] not in _ALWAYS and any(_touches(loc, other) for other in skipped):
            continue
        problem = _translate(document, path, loc, model, detail, later or {}, later_id)
        # A union reports every branch at the same place; the first says enough.
        if (spot := (loc, problem.id)) not in said:
            said.add(spot)
            out.append(problem)
    return out


def _touches(loc: Path, other: Path) -> bool:
    shorter = min(len(loc), len(other))
    return loc[:shorter] == other[:shorter]


def _real(document: Document, path: Path, loc: Sequence[str | int]) -> Path:
    """``loc`` as it leads through the data, without what pydantic adds (names of union branches, ``[key]``)."""
    value: Any = document.data
    for part in path:
        value = value[part]
    out: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(value, Mapping) and isinstance(part, str) and (part in value or index == len(loc) - 1):
            if part == "[key]":
                continue
            out.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            out.append(part)
            value = value[part]
    return tuple(out)


def _translate(
    document: Document,
    path: Path,
    loc: Path,
    model: type[BaseModel],
    detail: ErrorDetails,
    later: Mapping[tuple[str, str], str],
    later_id: str,
) -> Problem:
    at, kind, context, value = path + loc, detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(document, path, loc, model, later, later_id)
    if kind == "missing":
        name = str(detail["loc"][-1])
        return document.problem(
            path + loc[:-1] if loc and loc[-1] == name else at,
            "value/missing",
            f'"{name}" is missing',
            hint=_description(model, detail["loc"]),
            key=False,
        )
    if kind in _KINDS:
        hint = f'quote it: "{value}"' if kind == "string_type" and _scalar(value) else ""
        return document.problem(at, "value/type", f"expected {_KINDS[kind]}, found {found(value)}", hint=hint)
    if kind in ("enum", "literal_error"):
        choices = [word.strip("' ") for word in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        message = f"{found(value)} is not one of {', '.join(choices)}"
        return document.problem(
            at, "value/choice", message, hint=nearest(value, choices) if isinstance(value, str) else ""
        )
    written = _value_at(document, at)
    return document.problem(at, "value/invalid", _sentence(kind, context, value, detail["msg"], written))


def _unknown_key(
    document: Document,
    path: Path,
    loc: Path,
    model: type[BaseModel],
    later: Mapping[tuple[str, str], str],
    later_id: str,
) -> Problem:
    at, key = path + loc, str(loc[-1]) if loc else ""
    around = [str(part) for part in reversed(loc[:-1]) if isinstance(part, str)] or [""]
    for under in around:
        if (instead := later.get((under, key))) is not None:
            return document.problem(at, later_id, f'"{key}" comes in a later version', hint=instead, key=True)
    known = _known(model, loc[:-1])
    if f"{key}_file" in known or _SECRET.search(key):
        wanted = f"{key}_file" if f"{key}_file" in known else next((k for k in known if k.endswith("_file")), "")
        hint = f"write {wanted}: and the path of a file that holds it" if wanted else "leave it out"
        # The line itself is not shown: a report is copied into tickets.
        problem = document.problem(at, EXPOSED, f'"{key}" would put a secret into this file', hint=hint, key=True)
        return replace(problem, source="")
    hint = nearest(key, known)
    if not hint and 0 < len(known) <= 8:
        hint = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
    return document.problem(at, "value/unknown-key", f'unknown key "{key}"', hint=hint, key=True)


def without_secrets(problems: Iterable[Problem]) -> list[Problem]:
    """``problems`` without the text of lines on which one of them found a secret."""
    listed = list(problems)
    lines = {(p.file, p.line) for p in listed if p.id == EXPOSED}
    return [replace(p, source="") if (p.file, p.line) in lines else p for p in listed]


def _value_at(document: Document, path: Path) -> Any:
    value: Any = document.data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _is_duration(value: Any) -> bool:
    try:
        return isinstance(value, str) and parse_duration(value) >= 0
    except InputError:
        return False


def _sentence(kind: str, context: Mapping[str, Any], value: Any, message: str, written: Any) -> str:
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        limit = format_duration(context[bound]) if _is_duration(written) else context[bound]
        return f"expected {words} {limit}, found {value if written is None else written}"
    if kind == "string_pattern_mismatch":
        return f"{found(value)} does not have the form {context['pattern']}"
    if kind == "too_short":
        return f"expected at least {context['min_length']} of them, found {context['actual_length']}"
    if kind == "value_error" and "error" in context:
        return str(context["error"])
    return message[:1].lower() + message[1:]


def _scalar(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _models(annotation: Any) -> Iterable[Any]:
    """The types inside Annotated, Optional and unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _models(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _models(inner)
    else:
        yield annotation


def _walk(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[type[BaseModel] | None, str]:
    """The innermost model that ``loc`` leads to, and the description of the last field on the way."""
    current: list[Any] = [model]
    description = ""
    for part in loc:
        following: list[Any] = []
        for candidate in current:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                for name, field in candidate.model_fields.items():
                    if part in (field.alias, name):
                        description = field.description or ""
                        following.extend(_models(field.annotation))
            elif get_origin(candidate) in (list, tuple, dict) or get_args(candidate):
                following.extend(_models(get_args(candidate)[-1]))
        current = following or current
    found_ = next((c for c in current if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return found_, description


def _known(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    inner, _ = _walk(model, loc)
    return field_names(inner) if inner is not None else []


def _description(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    return _walk(model, loc)[1]
