"""Where a text can stand in the parameters of an action: every string there is, and every one that could be there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from remediator.action import Action
from tests.integrations.corpus import PAYLOADS

Place = tuple[str, Callable[[str], dict[str, Any]], tuple[str, ...]]
"""A name for the report, the parameters with a text in that place, and the texts to try there."""

SOME = PAYLOADS[::8]
"""Enough of every kind for a place whose parameter gets all of them elsewhere."""


def _written(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every string in JSON data, with the way to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _written(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _written(inner, (*path, index))


def _with(data: dict[str, Any], path: tuple[Any, ...], before: str, after: str, text: str) -> dict[str, Any]:
    made = copy.deepcopy(data)
    inner: Any = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = before + text + after
    return made


def _added(data: dict[str, Any], name: str, shape: Callable[[str], Any], text: str) -> dict[str, Any]:
    return {**data, name: shape(text)}


def _shapes(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
    """The values of a JSON Schema that hold a text: the text itself, in a list, as value or name in an object."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _shapes(each, definitions)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "string" in kinds or (not kinds and not {"anyOf", "oneOf", "allOf", "enum", "const"} & set(schema)):
        yield lambda text: text
    if "array" in kinds:
        yield lambda text: [text]
    if "object" in kinds:
        yield lambda text: {"name": text}
        yield lambda text: {text: "value"}


def places(action: Action[Any]) -> list[Place]:
    """All places of ``action``: the strings it has, alone and around a text, and those that its model would take."""
    data = action.model_dump(mode="json", by_alias=True, exclude_unset=True)
    found: list[Place] = []
    for path, text in _written(data):
        where = ".".join(map(str, path))
        found.append((where, partial(_with, data, path, "", ""), PAYLOADS))
        found.append((f"after {where}", partial(_with, data, path, text, ""), SOME))
        found.append((f"before {where}", partial(_with, data, path, "", text), SOME))
    schema = type(action).model_json_schema(by_alias=True)
    for name, of in schema["properties"].items():
        if isinstance(data.get(name), str):
            continue  # It is written, and has its three places.
        for number, shape in enumerate(_shapes(of, schema.get("$defs", {}))):
            texts = PAYLOADS if number == 0 and name not in data else SOME
            found.append((f"{name} as shape {number}", partial(_added, data, name, shape), texts))
    return found
