"""``${{ labels.x }}`` in parameters: a typed lookup that is filled in once, never a template language.

A value that is nothing but one placeholder becomes the thing looked up, with its type. Inside a longer text
only text, numbers and booleans can stand. ``$${{`` is the text ``${{``. What was filled in is not looked at
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remediator.errors import InputError

ROOTS = ("labels", "annotations", "probes", "steps")
"""What a placeholder of a rule can look into; see docs/reference/rules.md."""

MESSAGE_ROOTS = ("labels", "annotations", "severity", "service", "state", "reason", "handover", "approval", "run")
"""What a placeholder of an escalation policy can look into; see docs/reference/escalations.md."""

_TEXTS = frozenset({"severity", "service", "state", "reason"})
"""Roots that are texts themselves: there is nothing inside to look into."""

MARK = "${{"

_PLACEHOLDER = re.compile(r"\$\$\{\{|\$\{\{(.*?)\}\}", re.DOTALL)
_ROOT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)")
_SEGMENT = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]{1,9})\]|\["([^"\\\]]*)"\]""")


class PlaceholderError(InputError):
    """A placeholder that cannot be read or filled in.

    ``path`` leads to its value, ``offset`` into its text.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = (), offset: int = 0, text: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.text = text


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder: where it stands, what it looks into and how it gets there."""

    path: tuple[str | int, ...]
    """Keys and indexes that lead to the value which holds it."""
    text: str
    """The whole text of that value."""
    offset: int
    root: str
    keys: tuple[str | int, ...]

    def __str__(self) -> str:
        """As it would be written: ``probes.deps.items[0]``."""
        return self.root + "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" if key.isidentifier() else f'["{key}"]'
            for key in self.keys
        )


def holds(value: Any) -> bool:
    """True when ``value`` has a placeholder, or something that begins like one, anywhere inside."""
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, dict):
        return any(holds(key) or holds(item) for key, item in value.items())
    if isinstance(value, list):
        return any(holds(item) for item in value)
    return False


def find(value: Any, names: tuple[str, ...] = ROOTS) -> tuple[Placeholder, ...]:
    """Every placeholder in ``value``, which is JSON data; ``names`` are what they may look into.

    Raises PlaceholderError for the first malformed one.
    """
    out = []
    for found in examine(value, names):
        if isinstance(found, PlaceholderError):
            raise found
        out.append(found)
    return tuple(out)


def examine(value: Any, names: tuple[str, ...] = ROOTS) -> tuple[Placeholder | PlaceholderError, ...]:
    """Like ``find``, but malformed placeholders are among the results instead of being raised."""
    return tuple(_examine(value, (), names))


def roots(value: Any) -> frozenset[str]:
    """What the placeholders in ``value`` look into: a subset of ``ROOTS``. Raises PlaceholderError."""
    return frozenset(found.root for found in find(value))


def _examine(
    value: Any, path: tuple[str | int, ...], names: tuple[str, ...]
) -> Iterator[Placeholder | PlaceholderError]:
    if isinstance(value, str):
        if MARK in value:
            try:
                yield from [part for part in _parts(value, path, names) if isinstance(part, Placeholder)]
            except PlaceholderError as error:
                yield error
    elif isinstance(value, dict):
        for key, item in value.items():
            if MARK in key:
                yield _in_key(key, path)
            yield from _examine(item, (*path, key), names)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _examine(item, (*path, index), names)


def _in_key(key: str, path: tuple[str | int, ...]) -> PlaceholderError:
    return PlaceholderError("a placeholder cannot stand in a key", (*path, key), key.find(MARK), key)


def _parts(text: str, path: tuple[str | int, ...], names: tuple[str, ...]) -> Iterator[str | Placeholder]:
    """``text`` cut into what stays as it is and what is looked up."""
    at = 0
    for found in _PLACEHOLDER.finditer(text):
        yield _literal(text, at, found.start(), path)
        at = found.end()
        yield MARK if found[1] is None else _read(found[1], text, found.start(), path, names)
    yield _literal(text, at, len(text), path)


def _literal(text: str, start: int, end: int, path: tuple[str | int, ...]) -> str:
    if (at := text.find(MARK, start, end)) >= 0:
        raise PlaceholderError('"${{" is never closed by "}}"; write $${{ for the text itself', path, at, text)
    return text[start:end]


def _read(
    inside: str, text: str, offset: int, path: tuple[str | int, ...], names: tuple[str, ...]
) -> Placeholder:
    def wrong(message: str) -> PlaceholderError:
        return PlaceholderError(message, path, offset, text)

    example = 'like ${{ labels.namespace }} or ${{ probes.deps.items[0]["a-b"] }}'
    root = _ROOT.match(inside)
    if root is None:
        raise wrong(f"a placeholder is a path {example}")
    if root[1] not in names:
        raise wrong(f'nothing is named "{root[1]}" here; placeholders look into {", ".join(names)}')
    keys: list[str | int] = []
    at = root.end()
    while segment := _SEGMENT.match(inside, at):
        keys.append(segment[1] if segment[1] is not None else int(segment[2]) if segment[2] else segment[3])
        at = segment.end()
    if rest := inside[at:].strip():
        raise wrong(f'"{rest[:40]}" is no part of a path; a placeholder is a lookup {example}, not code')
    if root[1] in _TEXTS:
        if keys:
            raise wrong(f"{root[1]} is text and has nothing inside")
        return Placeholder(path, text, offset, root[1], ())
    if not keys or not isinstance(keys[0], str):
        raise wrong(f"{root[1]} is looked into by a name: {root[1]}.name")
    if root[1] in ("labels", "annotations") and len(keys) > 1:
        raise wrong(f"{root[1]}.{keys[0]} is text and has nothing inside")
    return Placeholder(path, text, offset, root[1], tuple(keys))


def fill(value: Any, lookup: Mapping[str, Any], names: tuple[str, ...] = ROOTS) -> Any:
    """``value`` with every placeholder filled in; ``lookup`` maps each of ``names`` to its data.

    Raises PlaceholderError naming what is missing: a placeholder without a value is a no, never an empty
    text.
    """
    return _fill(value, lookup, (), names)


def _fill(value: Any, lookup: Mapping[str, Any], path: tuple[str | int, ...], names: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _fill_text(value, lookup, path, names) if MARK in value else value
    if isinstance(value, Mapping):
        for key in value:
            if MARK in key:
                raise PlaceholderError("a placeholder cannot stand in a key", (*path, key), key.find(MARK), key)
        return {key: _fill(item, lookup, (*path, key), names) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, lookup, (*path, index), names) for index, item in enumerate(value)]
    return value


def _fill_text(text: str, lookup: Mapping[str, Any], path: tuple[str | int, ...], names: tuple[str, ...]) -> Any:
    parts = [part for part in _parts(text, path, names) if part != ""]
    if len(parts) == 1 and isinstance(parts[0], Placeholder):
        return _look_up(parts[0], lookup)
    return "".join(part if isinstance(part, str) else _as_text(part, lookup) for part in parts)


def _as_text(placeholder: Placeholder, lookup: Mapping[str, Any]) -> str:
    found = _look_up(placeholder, lookup)
    if isinstance(found, str):
        return found
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    kind = "nothing (null)" if found is None else "a list" if isinstance(found, list) else "a map"
    raise PlaceholderError(
        f"{placeholder} is {kind}, which cannot stand inside a text; give it a value of its own",
        placeholder.path,
        placeholder.offset,
        placeholder.text,
    )


def _look_up(placeholder: Placeholder, lookup: Mapping[str, Any]) -> Any:
    found: Any = lookup.get(placeholder.root, {})
    way = placeholder.root
    for key in placeholder.keys:
        way += f"[{key}]" if isinstance(key, int) else f".{key}"
        inside = isinstance(found, Mapping) if isinstance(key, str) else isinstance(found, list | tuple)
        if not inside or (key not in found if isinstance(key, str) else key >= len(found)):
            raise PlaceholderError(
                f"{way} does not exist, so {placeholder} cannot be filled in",
                placeholder.path,
                placeholder.offset,
                placeholder.text,
            )
        found = found[key]
    return found
