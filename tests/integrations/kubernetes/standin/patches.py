"""The three ways to patch an object: merge (RFC 7386), strategic merge (by Kubernetes' merge keys), JSON (RFC 6902)."""

from __future__ import annotations

import copy
from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "conditions": "type",
    "ownerReferences": "uid",
}
"""``x-kubernetes-patch-merge-key`` of the lists that the API merges; every other list is replaced whole."""


class PatchFailed(Exception):
    """The patch cannot be applied; the API server answers 422."""


def merge(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(old: Any, patch: Any, key: str = "") -> Any:
    """Strategic merge with the directives ``$patch: replace`` and ``$patch: delete``."""
    if isinstance(patch, dict):
        directive = patch.get("$patch")
        rest = {name: value for name, value in patch.items() if name != "$patch"}
        if directive == "replace":
            return copy.deepcopy(rest)
        result = dict(old) if isinstance(old, dict) else {}
        for name, value in rest.items():
            if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
                result.pop(name, None)
            else:
                result[name] = strategic(result.get(name), value, name)
        return result
    if isinstance(patch, list) and key in MERGE_KEYS:
        return _merge_list(old if isinstance(old, list) else [], patch, MERGE_KEYS[key])
    return copy.deepcopy(patch)


def _merge_list(old: list[Any], patch: list[Any], by: str) -> list[Any]:
    result = list(old)
    for item in patch:
        if by not in item:
            raise PatchFailed(f"map: {item} does not contain declared merge key: {by}")
        place = next((n for n, each in enumerate(result) if each.get(by) == item[by]), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def json_patch(old: Any, operations: Any) -> Any:
    """RFC 6902: test, add, replace, remove."""
    document = copy.deepcopy(old)
    if not isinstance(operations, list):
        raise PatchFailed("a JSON patch is a list")
    for each in operations:
        parent, last = _parent(document, each["path"])
        exists = last in parent if isinstance(parent, dict) else int(last) < len(parent)
        kind = each["op"]
        if kind == "test" and (not exists or _at(parent, last) != each["value"]):
            raise PatchFailed(f"testing value {each['path']} failed: test failed")
        if kind in ("replace", "remove") and not exists:
            raise PatchFailed(f"{kind} operation does not apply: doc is missing key: {each['path']}")
        if kind in ("add", "replace"):
            _put(parent, last, each["value"], insert=kind == "add")
        elif kind == "remove":
            del parent[last if isinstance(parent, dict) else int(last)]
    return document


def _at(parent: Any, last: str) -> Any:
    return parent[last] if isinstance(parent, dict) else parent[int(last)]


def _put(parent: Any, last: str, value: Any, *, insert: bool) -> None:
    if isinstance(parent, dict):
        parent[last] = copy.deepcopy(value)
    elif last == "-":
        parent.append(copy.deepcopy(value))
    elif insert:
        parent.insert(int(last), copy.deepcopy(value))
    else:
        parent[int(last)] = copy.deepcopy(value)


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *parts, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    for part in parts:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            raise PatchFailed(f"add operation does not apply: doc is missing path: {path}")
    return document, last
