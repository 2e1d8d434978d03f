"""Tests of commands as the operator declares them: what may enter an argument list."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.integrations.command._program import Program
from remediator.integrations.command.target import CommandTarget


def _program(argv: list[str], **parameters: dict[str, Any]) -> Program:
    return Program.model_validate({"argv": ["/bin/echo", *argv], "parameters": parameters})


def test_values_become_single_arguments() -> None:
    """A value fills its place and never makes a second argument; doubled braces are braces."""
    program = _program(["{queue}", "--count={n}", "{{x}}", "a{queue}b"], queue={}, n={"type": "integer"})
    assert program.fill({"queue": "mint", "n": "5"}) == ["/bin/echo", "mint", "--count=5", "{x}", "amintb"]


@pytest.mark.parametrize("value", ["", "-rf", "a b", "a;id", "$(id)", "../x", "a\n", "ü", "a\x00", "x" * 300])
def test_without_a_pattern_only_plain_words_enter(value: str) -> None:
    """The default for text is one plain word; anything else needs a pattern that the operator writes."""
    with pytest.raises(ValueError, match='parameter "v"'):
        _program(["{v}"], v={}).fill({"v": value})


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ({"pattern": "[a-z ]+"}, "two words", "two words!"),
        ({"pattern": "a|b"}, "b", "bb"),
        ({"pattern": ".*"}, "x; y", "x\ny"),
        ({"choices": ["eu", "us"]}, "eu", "e"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, 9, 10),
        ({"type": "integer", "minimum": 1}, "1", "0"),
        ({"type": "integer"}, "-3", "3.0"),
        ({"type": "integer"}, 3, "٣"),
        ({"type": "integer"}, 3, " 3"),
    ],
)
def test_values_are_checked_as_a_whole(parameter: dict[str, Any], good: str | int, bad: str | int) -> None:
    """Patterns match the whole value, numbers are numbers in their bounds."""
    program = _program(["x{v}"], v=parameter)
    assert program.fill({"v": good})[1] == f"x{good}"
    with pytest.raises(ValueError, match='parameter "v" must'):
        program.fill({"v": bad})


def test_a_value_never_begins_an_option() -> None:
    """An argument that begins with a value cannot begin with a dash, unless the operator allows it."""
    anything = {"pattern": ".*"}
    with pytest.raises(ValueError, match="begin with a dash"):
        _program(["{v}"], v=anything).fill({"v": "--force"})
    with pytest.raises(ValueError, match="begin with a dash"):
        _program(["{a}{b}"], a=anything, b=anything).fill({"a": "", "b": "-x"})
    with pytest.raises(ValueError, match="begin with a dash"):
        _program(["{n}"], n={"type": "integer"}).fill({"n": -1})
    assert _program(["--n={n}"], n={"type": "integer"}).fill({"n": -1})[1] == "--n=-1"
    assert _program(["{v}"], v={**anything, "allow_dash": True}).fill({"v": "-x"})[1] == "-x"


def test_missing_unknown_and_default_values() -> None:
    """Every parameter has a value, and no value is without a parameter."""
    program = _program(["{v}"], v={"default": "mint"})
    assert program.fill({})[1] == "mint"
    with pytest.raises(ValueError, match='no parameter "w"'):
        program.fill({"w": "x"})
    with pytest.raises(ValueError, match='"v" is missing'):
        _program(["{v}"], v={}).fill({})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"argv": []}, "at least 1"),
        ({"argv": ["{x}"], "parameters": {"x": {}}}, "without parameters"),
        ({"argv": ["./x"]}, "absolute path"),
        ({"argv": ["bin/x"]}, "absolute path"),
        ({"argv": ["x", "{y}"]}, "not among the parameters"),
        ({"argv": ["x"], "parameters": {"y": {}}}, "does not use"),
        ({"argv": ["x", "{"]}, "single brace"),
        ({"argv": ["x", "awk {print $1}"]}, "single brace"),
        ({"argv": ["x", "a\x00b"]}, "NUL"),
        ({"argv": ["x"], "effect": "conditional"}, "effect"),
        ({"argv": ["x"], "success_codes": [0], "temporary_codes": [0]}, "either"),
        ({"argv": ["x", "{y}"], "parameters": {"y": {"pattern": "("}}}, "RE2"),
        ({"argv": ["x", "{y}"], "parameters": {"y": {"pattern": "(?=a)"}}}, "RE2"),
        ({"argv": ["x", "{y}"], "parameters": {"y": {"type": "integer", "pattern": "1"}}}, "integer takes"),
        ({"argv": ["x", "{y}"], "parameters": {"y": {"minimum": 1}}}, "string takes"),
        ({"argv": ["x", "{y}"], "parameters": {"y": {"default": "a b"}}}, "must match"),
        ({"argv": ["x"], "shell": True}, "shell"),
    ],
)
def test_wrong_commands_are_refused_at_load(settings: dict[str, Any], message: str) -> None:
    """A command that could not be run as written is found when the settings are loaded."""
    with pytest.raises(ValidationError, match=message):
        Program.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directory": "relative"}, "absolute path"),
        ({"commands": {}}, "at least 1"),
        ({"commands": {"a": {"argv": ["x"], "undo": "b"}}}, 'no command is named "b"'),
        (
            {"commands": {"a": {"argv": ["x"], "undo": "b"}, "b": {"argv": ["x", "{y}"], "parameters": {"y": {}}}}},
            "parameters that",
        ),
        ({"environment_files": {"A": "relative"}}, "absolute path"),
        ({"environment": {"A": "x${env:B}"}}, "whole value"),
        ({"environment": {"A=B": "x"}}, "pattern"),
        ({"environment": {"A": "x"}, "environment_files": {"A": "/x"}}, "environment_files"),
    ],
)
def test_wrong_targets_are_refused_at_load(settings: dict[str, Any], message: str) -> None:
    """Surroundings that could not be given are found when the settings are loaded."""
    base = {"directory": "/", "commands": {"a": {"argv": ["x"]}}}
    with pytest.raises(ValidationError, match=message):
        CommandTarget.model_validate({**base, **settings})
