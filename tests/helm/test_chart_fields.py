"""The rendered documents against the API's own description, as the Kubernetes client carries it."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import pytest

from tests.helm.chart import FULL, LEAST, SCALING, render
from tests.helm.test_chart_postgres import EVERYTHING, POSTGRES, WITH_REDIS

ROLES = """
kind: ClusterRole
rules: [{apiGroups: [""], resources: [nodes], resourceNames: [node-1], verbs: [get, patch]}]
---
kind: Role
metadata: {namespace: production}
rules: [{apiGroups: [apps], resources: [deployments], resourceNames: [minting-service], verbs: [get, patch]}]
"""
SHAPES = {
    "least": LEAST,
    "scaling": SCALING,
    "full": FULL,
    "postgres": POSTGRES,
    "redis": WITH_REDIS,
    "everything": EVERYTHING,
    "roles": {**SCALING, "rbac": {"roles": ROLES}},
}
PLAIN = {"str": str, "int": int, "bool": bool}
MANY = re.compile(r"(?:List\[(.*)\]|Dict\[str, (.*)\])")


def wrong(kind: str, data: Any, path: str) -> Iterator[str]:
    """Where ``data`` is not what the API calls ``kind``: an unknown field, or a value of another type."""
    many = MANY.fullmatch(kind)
    if many is not None:
        if not isinstance(data, list if many[1] else dict):
            yield f"{path}: {data!r} is no {kind}"
            return
        items = data.items() if isinstance(data, dict) else enumerate(data)
        for key, item in items:
            yield from wrong(many[1] or many[2], item, f"{path}[{key}]")
    elif kind in PLAIN:
        if type(data) is not PLAIN[kind]:
            yield f"{path}: {data!r} is no {kind}"
    elif kind != "object":
        model = getattr(kubernetes.client, kind)
        fields = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
        if not isinstance(data, dict):
            yield f"{path}: {data!r} is no {kind}"
            return
        for name, value in data.items():
            if name not in fields:
                yield f"{path}.{name}: {kind} has no such field"
            else:
                yield from wrong(fields[name], value, f"{path}.{name}")


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_every_field_is_one_that_kubernetes_knows(values: dict[str, Any]) -> None:
    """No field is misspelled, misplaced or of another type: a cluster that is not strict would drop it silently."""
    documents = [document for document in render(values) if document["kind"] != "ServiceMonitor"]
    assert [say for d in documents for say in wrong(f"V1{d['kind']}", d, d["kind"])] == []


def test_a_misplaced_field_is_found() -> None:
    """The comparison itself sees an unknown field and a wrong type, however deep they are."""
    pod = {"spec": {"containers": [{"name": "a", "imagePullPolice": "Never"}], "hostNetwork": "no"}}
    assert list(wrong("V1Pod", pod, "Pod")) == [
        "Pod.spec.containers[0].imagePullPolice: V1Container has no such field",
        "Pod.spec.hostNetwork: 'no' is no bool",
    ]
