"""Proves that the OpenAPI document is complete: every route, reference and parameter, as the server has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from remediator.web.events import EVENT_STREAM
from remediator.web.openapi import QUERY, document
from remediator.web.routes import ROUTES
from tests.web.site import Site


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


async def test_the_document_is_served_to_everybody(site: Site) -> None:
    """The address that clients are generated from answers with the document and names the version of the standard."""
    status, page = await site.get("/api/v1/openapi.json")
    assert (status, page["openapi"]) == (200, "3.1.0")
    assert page == json.loads(json.dumps(document()))


def test_every_route_is_described_once() -> None:
    """Each route of the table has an operation with a summary, its own id, and the role that it needs."""
    paths = document()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == len(ROUTES) + 2
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        assert operation["summary"].endswith((".", ".."))
        assert ("security" in operation) == (route.role is not None)
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", route.path))


def test_every_reference_leads_somewhere() -> None:
    """A generator of clients finds every schema and every response that is referred to."""
    page = document()
    for reference in _references(page):
        found: Any = page
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


async def test_every_parameter_is_taken_where_it_is_described(site: Site) -> None:
    """No route describes a query parameter that its handler would refuse as unknown."""
    samples = {"state": "held", "kind": "revert", "label": "a=b"}
    samples |= {"limit": "1", "open": "true", "order": "asc", "format": "csv", "cursor": ""}
    samples |= {"records": "0", "head": "0" * 64}
    for route in ROUTES:
        for name in route.query:
            also = {"records": f"&head={samples['head']}", "head": "&records=0"}.get(name, "")
            # A stream has no end to wait for; its head says as much about the parameter.
            method = "HEAD" if route.gives == EVENT_STREAM else "GET"
            status, answer = await site.ask(method, f"{route.path}?{name}={samples.get(name, 'x')}{also}")
            assert status == 200, (route.path, name, answer)
    assert {name for route in ROUTES for name in route.query} == set(QUERY)
