"""``remediator schema``: what editors complete and check is what the service takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from remediator.catalogue import Catalogue
from remediator.cli import main
from remediator.rule import Rule
from remediator.settings import SettingsFile


def made(*arguments: str) -> dict[str, Any]:
    """The schema that the command prints."""
    done = CliRunner().invoke(main, ["schema", *arguments])
    assert done.exit_code == 0
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """``part``, or what it refers to."""
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return part


def everything(value: Any) -> list[Any]:
    """``value`` and all that is inside."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(each for item in inside for each in everything(item))]


@pytest.mark.parametrize("arguments", [(), ("--settings",)])
def test_every_reference_leads_somewhere(arguments: tuple[str, ...]) -> None:
    """No reference of the schema is broken, and it says which draft it is."""
    schema = made(*arguments)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    references = [part["$ref"] for part in everything(schema) if isinstance(part, dict) and "$ref" in part]
    assert all(reference.removeprefix("#/$defs/") in schema["$defs"] for reference in references)


@pytest.mark.parametrize("arguments", [(), ("--settings",)])
def test_defaults_are_written_as_people_write_them(arguments: tuple[str, ...]) -> None:
    """A duration's default is shown as 15m, not as 900.0, so that it can be copied."""
    for part in everything(made(*arguments)):
        if isinstance(part, dict) and part.get("type") == "string" and "default" in part:
            assert isinstance(part["default"], str), part


def test_a_rule_has_the_keys_of_the_model() -> None:
    """Editors offer exactly the keys of a rule, and refuse any other."""
    schema = made()
    rule = resolve(schema, schema["properties"]["rules"]["items"])
    assert set(rule["properties"]) == {field.alias or name for name, field in Rule.model_fields.items()}
    assert rule["additionalProperties"] is False
    assert set(rule["required"]) == {"name", "when"}
    assert rule["oneOf"] == [{"required": ["steps"]}, {"required": ["remedies"]}]


def test_a_step_acts_or_waits() -> None:
    """Editors demand an action with its target, or a wait, which may be a plain duration."""
    step = made()["$defs"]["Step"]
    assert step["oneOf"] == [{"required": ["uses", "target"]}, {"required": ["wait"]}]
    assert step["properties"]["wait"]["anyOf"][0]["type"] == "string"


@pytest.mark.parametrize(
    ("holder", "families"), [("Step", ("actions", "composites")), ("ProbeCall", ("probes",))]
)
def test_parameters_depend_on_what_is_used(holder: str, families: tuple[str, ...]) -> None:
    """For each action, probe and composite the schema offers its parameters, demands needed ones, refuses others."""
    schema, catalogue = made(), Catalogue()
    part = schema["$defs"][holder]
    assert part["properties"]["uses"]["enum"] == [name for family in families for name in catalogue.names(family)]
    branches = {branch["if"]["properties"]["uses"]["const"]: branch["then"] for branch in part["allOf"]}
    for entry in [entry for family in families for entry in catalogue.describe(family)]:
        inner = branches[entry["name"]]["properties"]["with"]
        assert set(inner["properties"]) == set(entry["parameters"].get("properties", {}))
        assert inner.get("required", []) == entry["parameters"].get("required", [])
        assert inner["additionalProperties"] is False


def test_parameters_take_placeholders_where_rules_may_use_them() -> None:
    """A number may be written as a placeholder, a parameter that is code may not."""
    schema = made()
    steps = {b["if"]["properties"]["uses"]["const"]: b["then"] for b in schema["$defs"]["Step"]["allOf"]}
    post = steps["http.post"]["properties"]["with"]["properties"]
    scale = steps["kubernetes.scale"]["properties"]["with"]["properties"]
    assert any("$" in each.get("pattern", "") for each in scale["at_least"]["anyOf"])
    assert "$" not in json.dumps(post["idempotent"])


def test_guards_may_be_written_short() -> None:
    """Each guard is a map with its name as the only key; cooldown also takes a plain duration."""
    schema = made()
    rule = resolve(schema, schema["properties"]["rules"]["items"])
    guards = {each["required"][0]: each for each in rule["properties"]["guards"]["items"]["oneOf"]}
    assert set(guards) == set(Catalogue().names("guards"))
    assert [each.get("type") for each in guards["cooldown"]["properties"]["cooldown"]["anyOf"]] == ["string", "object"]


def test_the_settings_have_the_keys_of_the_model() -> None:
    """Editors offer the settings' keys, and for each kind of target its own."""
    schema = made("--settings")
    assert set(schema["properties"]) == set(SettingsFile.model_fields)
    targets = schema["properties"]["targets"]["additionalProperties"]
    kinds = {branch["if"]["properties"]["kind"]["const"]: branch["then"] for branch in targets["allOf"]}
    assert set(kinds) == set(Catalogue().names("targets"))
    assert {"base_url", "bearer_token_file", "permit", "kind"} <= set(kinds["http"]["properties"])
    assert "name" not in kinds["http"]["properties"]
