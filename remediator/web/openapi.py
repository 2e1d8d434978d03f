"""The OpenAPI 3.1 document (spec.openapis.org/oas/v3.1), made of the table of routes and their shapes."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, TypeAdapter

from remediator import __version__
from remediator.run import Kind, State
from remediator.web import shapes
from remediator.web.answers import PROBLEM
from remediator.web.call import LIMIT, MOST
from remediator.web.routes import OPENAPI, ROUTES, WEBHOOK, Route

_REF = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
QUERY: dict[str, dict[str, Any]] = {
    "state": {
        "schema": {"type": "array", "items": {"type": "string", "enum": [state.value for state in State]}},
        "description": "Only these states; may stand several times.",
    },
    "kind": {
        "schema": {"type": "array", "items": {"type": "string", "enum": [kind.value for kind in Kind]}},
        "description": "Runs of these kinds instead of those that carry out rules; may stand several times.",
    },
    "label": {
        "schema": {"type": "array", "items": _TEXT},
        "description": "A label of the alert as name=value; at least one, may stand several times.",
    },
    "rule": {"schema": _TEXT, "description": "Only this rule."},
    "incident": {"schema": _TEXT, "description": "Only this incident, by id."},
    "run": {"schema": _TEXT, "description": "Only this run, by id."},
    "event": {"schema": _TEXT, "description": "Only this event, such as run.denied."},
    "open": {"schema": {"type": "string", "enum": ["true", "false"]}, "description": "Only those that have not ended."},
    "order": {"schema": {"type": "string", "enum": ["asc", "desc"]}, "description": "Oldest or newest first."},
    "format": {"schema": {"type": "string", "enum": ["jsonl", "csv"]}, "description": "How records are written."},
    "records": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Of an anchor: how many records there were.",
    },
    "head": {"schema": _TEXT, "description": "Of an anchor: the digest of the last of them."},
    "verbose": {"schema": _TEXT, "description": "If present, the answer is JSON.", "allowEmptyValue": True},
    "limit": {
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT},
        "description": "How many items at most.",
    },
    "cursor": {"schema": _TEXT, "description": "`next` of the page before."},
}
"""Every query parameter that any route takes."""

_DELIVERY = {
    "type": "object",
    "description": "A webhook body of Alertmanager, version 4.",
    "required": ["version", "alerts"],
    "properties": {"version": {"const": "4"}, "alerts": {"type": "array", "items": {"type": "object"}}},
}


class _Schemas:
    """Collects the schema of every shape under its name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def ref(self, shape: Any) -> dict[str, str]:
        """A reference to the schema of ``shape``."""
        model = isinstance(shape, type) and issubclass(shape, BaseModel)
        schema = TypeAdapter(shape).json_schema(ref_template=_REF, mode="validation" if model else "serialization")
        self.found |= schema.pop("$defs", {})
        self.found[shape.__name__] = schema
        return {"$ref": _REF.format(model=shape.__name__)}


def _content(gives: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(gives, str):
        return {gives: {"schema": _TEXT}}
    return {"application/json": {"schema": schemas.ref(gives)}}


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [{"name": name, "in": "query", **QUERY[name]} for name in route.query]
    refusals = {*route.refusals, *(() if route.role is None else (401, 403, 503))}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            "200": {"description": "The answer.", "content": _content(route.gives, schemas)},
            **{str(code): {"$ref": "#/components/responses/problem"} for code in sorted(refusals)},
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        content = {"application/json": {"schema": schemas.ref(route.takes)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.role is not None:
        operation["security"] = [{"bearer": []}]
        operation["description"] = f"Needs the role {route.role}."
    return operation


def _webhook(schemas: _Schemas) -> dict[str, Any]:
    codes = ("400", "401", "403", "408", "413", "415", "503")
    return {
        "operationId": "deliver",
        "summary": "Alertmanager's webhook.",
        "description": "200 only after the delivery is committed; 503 means send again. Never 429.",
        "security": [{"bearer": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _DELIVERY}}},
        "responses": {
            "200": {"description": "Committed.", "content": _content(shapes.Accepted, schemas)},
            **{code: {"$ref": "#/components/responses/problem"} for code in codes},
        },
    }


def document() -> dict[str, Any]:
    """The whole document as JSON data."""
    schemas = _Schemas()
    paths: dict[str, Any] = {WEBHOOK: {"post": _webhook(schemas)}}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    page = {"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}}
    paths[OPENAPI] = {"get": {"operationId": "openapi", "summary": "This document.", "responses": {"200": page}}}
    refused = {"description": "Why not.", "content": {PROBLEM: {"schema": schemas.ref(shapes.Problem)}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Remediator",
            "version": __version__,
            "description": "Alerts become guarded, verified and audited actions.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.found.items())),
            "responses": {"problem": refused},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
