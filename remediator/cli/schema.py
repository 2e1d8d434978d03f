"""``remediator schema``: JSON Schema of rules and settings, with which editors complete and check while you write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import click
from pydantic import BaseModel

from remediator.catalogue import Catalogue, summary
from remediator.clock import format_duration
from remediator.placeholder import ROOTS
from remediator.rule import Rule
from remediator.settings import SettingsFile

# The draft that yaml-language-server and most editors know best; $defs are reached by plain pointers.
DRAFT = "http://json-schema.org/draft-07/schema#"

_PLACEHOLDER = {
    "type": "string",
    "pattern": r"\$\{\{",
    "description": f"A placeholder such as ${{{{ labels.namespace }}}}; it looks into {', '.join(ROOTS)}.",
}

Schema = dict[str, Any]


@click.command()
@click.option("--settings", "of_settings", is_flag=True, help="The schema of remediator.yaml instead of that of rules.")
def schema(of_settings: bool) -> None:
    """Print the JSON Schema of rule files.

    Put it beside the rules and write as their first line:
    # yaml-language-server: $schema=./remediator.schema.json
    """
    catalogue = Catalogue()
    made = settings_schema(catalogue) if of_settings else rules_schema(catalogue)
    click.echo(json.dumps(made, indent=2, ensure_ascii=False))


def rules_schema(catalogue: Catalogue) -> Schema:
    """The schema of a rule file: parameters depend on what a probe or a step uses."""
    rule = _schema(Rule)
    defs: Schema = rule.pop("$defs")
    rule["properties"]["guards"]["items"] = {
        "oneOf": [_guard(catalogue, name, defs) for name in catalogue.names("guards")]
    }
    alert = defs["When"]["properties"]["alert"]
    defs["When"]["properties"]["alert"] = {
        "description": alert.pop("description"),
        "anyOf": [{"type": "string"}, {key: value for key, value in alert.items() if key != "title"}],
    }
    steps = [*catalogue.names("actions"), *catalogue.names("composites")]
    _choose(defs["Step"], "uses", steps, lambda name: catalogue.action(name) or catalogue.composite(name), "with", defs)
    step = defs["Step"]
    step["oneOf"] = [{"required": ["uses", "target"]}, {"required": ["wait"]}]
    duration = defs["Wait"]["properties"]["every"]["pattern"]
    step["properties"]["wait"] = {
        "description": step["properties"]["wait"]["description"],
        "anyOf": [{"type": "string", "pattern": duration}, {"$ref": "#/$defs/Wait"}],
    }
    for holder, keys in ((rule, ("steps", "remedies")), (defs["Wait"], ("for", "until"))):
        holder["oneOf"] = [{"required": [key]} for key in keys]
    _choose(defs["ProbeCall"], "uses", catalogue.names("probes"), catalogue.probe, "with", defs)
    defs["Rule"] = rule
    return {
        "$schema": DRAFT,
        "title": "Remediator rules",
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {"$ref": "#/$defs/Rule"}, "description": "The rules."}},
        "required": ["rules"],
        "additionalProperties": False,
        "$defs": defs,
    }


def settings_schema(catalogue: Catalogue) -> Schema:
    """The schema of ``remediator.yaml``: what a target takes depends on its kind."""
    made = _schema(SettingsFile)
    defs: Schema = made.setdefault("$defs", {})
    made["properties"]["guards"]["items"] = {
        "oneOf": [_guard(catalogue, name, defs) for name in catalogue.names("guards")]
    }
    kinds = catalogue.names("targets")
    branches = []
    for kind in kinds:
        model = catalogue.target_kind(kind)
        if model is None:
            continue
        target = _parameters(model, f"{kind} target", defs)
        target["properties"].pop("name", None)
        target["properties"]["kind"] = {"const": kind}
        branches.append({"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": target})
    made["properties"]["targets"]["additionalProperties"] = {
        "type": "object",
        "properties": {"kind": {"enum": list(kinds), "description": "The integration that the target belongs to."}},
        "required": ["kind"],
        "allOf": branches,
    }
    return {"$schema": DRAFT, **made, "title": "Remediator settings"}


def _choose(
    holder: Schema,
    key: str,
    names: Iterable[str],
    find: Callable[[str], type[BaseModel] | None],
    parameters: str,
    defs: Schema,
) -> None:
    """Makes ``holder[parameters]`` depend on the value of ``key``, one branch for each of ``names``."""
    listed = list(names)
    branches = []
    for name in listed:
        model = find(name)
        if model is None:
            continue
        literal: frozenset[str] = getattr(model, "literal", frozenset())
        inner = _parameters(model, name, defs)
        inner["description"] = summary(model)
        inner["properties"] = {
            field: schema if field in literal else _or_placeholder(schema)
            for field, schema in inner.get("properties", {}).items()
        }
        then: Schema = {"properties": {parameters: inner}}
        if inner.get("required"):
            then["required"] = [parameters]
        branches.append({"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": then})
    holder["properties"][key] = {
        "enum": listed,
        "description": holder["properties"][key].get("description", ""),
    }
    holder["properties"][parameters] = {"type": "object", "description": "Parameters; they depend on `uses`."}
    holder["allOf"] = branches


def _guard(catalogue: Catalogue, name: str, defs: Schema) -> Schema:
    """A map with the guard's name as its only key."""
    model = catalogue.guard(name)
    if model is None:
        return {}
    inner = _parameters(model, name, defs)
    if model.shorthand is not None:
        short = {key: value for key, value in inner["properties"][model.shorthand].items() if key != "title"}
        inner = {"anyOf": [short, inner]}
    elif not inner.get("required"):
        inner = {"anyOf": [inner, {"type": "null"}]}
    return {
        "type": "object",
        "properties": {name: inner | {"description": summary(model)}},
        "required": [name],
        "additionalProperties": False,
    }


def _or_placeholder(schema: Schema) -> Schema:
    """``schema``, or text with a placeholder: what it becomes is checked when it is filled in."""
    if "$ref" not in schema and schema.get("type") == "string" and not {"pattern", "enum", "maxLength"} & schema.keys():
        return schema
    inner = {key: value for key, value in schema.items() if key not in ("description", "title", "default")}
    if not inner:
        return schema
    outer = {key: value for key, value in schema.items() if key in ("description", "default")}
    return outer | {"anyOf": [inner, _PLACEHOLDER]}


def _parameters(model: type[BaseModel], prefix: str, defs: Schema) -> Schema:
    """The schema of ``model``; what it refers to goes into ``defs`` under names that begin with ``prefix``."""
    made = _schema(model)
    inner = made.pop("$defs", {})
    names = {f"#/$defs/{name}": f"#/$defs/{prefix} {name}" for name in inner}
    for name, schema in inner.items():
        defs[f"{prefix} {name}"] = _renamed(schema, names)
    renamed: Schema = _renamed(made, names)
    renamed.pop("title", None)
    return renamed


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: names.get(item, item) if key == "$ref" and isinstance(item, str) else _renamed(item, names)
            for key, item in value.items()
        }
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


def _schema(model: type[BaseModel]) -> Schema:
    made: Schema = _tidy(model.model_json_schema(by_alias=True))
    return made


def _tidy(value: Any) -> Any:
    """Defaults as a person writes them: pydantic gives those of durations in seconds."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: _tidy(item) for key, item in value.items()}
    default = out.get("default")
    if out.get("type") == "string" and isinstance(default, int | float) and not isinstance(default, bool):
        out["default"] = format_duration(default)
    return out
