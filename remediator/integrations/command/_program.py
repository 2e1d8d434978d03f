"""Commands as the operator declares them: their argv, the parameters that may enter it, and what they accept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from remediator.clock import Duration

NAME = r"^[a-z][a-z0-9_-]{0,62}$"
_PLAIN_WORD = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,252}"
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_TOKEN = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_-]*)\}|[{}]|[^{}]+")
_LONGEST = 4096


def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write to standard error.
    return re2.compile(text, options)


class Parameter(BaseModel):
    """One value that a rule may give to a command, and what it must look like."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["string", "integer"] = Field(default="string", description="What the value is.")
    description: str = Field(default="", description="What the parameter is for.")
    pattern: str | None = Field(
        default=None,
        description="RE2 pattern that the whole value must match; if neither this nor choices is given, "
        f"`{_PLAIN_WORD}`.",
    )
    choices: list[str] | None = Field(default=None, min_length=1, description="The values that are accepted.")
    minimum: int | None = Field(default=None, description="Smallest integer accepted.")
    maximum: int | None = Field(default=None, description="Largest integer accepted.")
    default: str | int | None = Field(default=None, description="The value if the rule gives none.")
    allow_dash: bool = Field(
        default=False, description="True if an argument may begin with a dash because of this value."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if self.type == "integer" and (self.pattern is not None or self.choices is not None):
            raise ValueError("an integer takes minimum and maximum, not pattern or choices")
        if self.type == "string" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("a string takes pattern or choices, not minimum or maximum")
        if self.pattern is not None:
            try:
                _pattern(self.pattern)
            except re2.error as error:
                raise ValueError(f"the pattern is not valid RE2: {error}") from None
        if self.default is not None:
            self.text(self.default)
        return self

    def text(self, value: str | int) -> str:
        """``value`` as the text that enters the argument. Raises ValueError with what is accepted."""
        return self._integer(value) if self.type == "integer" else self._string(value)

    def _integer(self, value: str | int) -> str:
        if isinstance(value, str):
            if _INTEGER.fullmatch(value) is None or not value.isascii():
                raise ValueError("must be a whole number")
            value = int(value)
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"must be at least {self.minimum}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"must be at most {self.maximum}")
        return str(value)

    def _string(self, value: str | int) -> str:
        text = str(value)
        if self.choices is not None:
            if text not in self.choices:
                raise ValueError(f"must be one of {', '.join(self.choices)}")
            return text
        if len(text) > _LONGEST or not text.isprintable():
            raise ValueError(f"must be printable text of at most {_LONGEST} characters")
        pattern = self.pattern or _PLAIN_WORD
        if _pattern(pattern).fullmatch(text) is None:
            raise ValueError(f"must match {pattern}")
        return text


def _is_text(token: str) -> bool:
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(token: str) -> Iterator[tuple[str, str]]:
    """Literal text and parameter names of one argument, as (literal, name); one of the two is empty."""
    for match in _TOKEN.finditer(token):
        if match[1]:
            yield "", match[1]
        elif match[0] in ("{", "}"):
            raise ValueError(f'"{token}" has a single brace; write {{name}} for a parameter and {{{{ for a brace')
        else:
            yield {"{{": "{", "}}": "}"}.get(match[0], match[0]), ""


class Program(BaseModel):
    """One command: an argument list, never a shell line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: str = Field(default="", description="What the command does.")
    argv: list[str] = Field(
        min_length=1,
        max_length=100,
        description="Program and arguments; `{name}` stands for a parameter, `{{` for a brace.",
    )
    parameters: dict[Annotated[str, StringConstraints(pattern=NAME)], Parameter] = Field(
        default_factory=dict, description="What rules may fill in."
    )
    effect: Literal["once", "idempotent", "keyed", "probe"] = Field(
        default="once",
        description="May it be run again after a crash? `once`: no, a person decides; `idempotent`: twice equals "
        "once; `keyed`: it drops a second run with the same $REMEDIATOR_KEY; `probe`: `done_if` tells.",
    )
    timeout: Duration = Field(default=60.0, gt=0, le=86400, description="How long it may run.")
    success_codes: list[int] = Field(default=[0], min_length=1, description="Exit codes that mean it was done.")
    temporary_codes: list[int] = Field(
        default=[], description="Exit codes that mean it did nothing and may be tried again (75 is EX_TEMPFAIL)."
    )
    undo: str | None = Field(default=None, description="The command that takes it back; it gets the same parameters.")
    precondition: str | None = Field(
        default=None,
        description="A command that changes nothing (a dry run) and must succeed before this one is even proposed.",
    )
    done_if: str | None = Field(
        default=None,
        description="A command that changes nothing and succeeds exactly when this one has nothing (more) to do.",
    )

    @field_validator("argv")
    @classmethod
    def _argv(cls, argv: list[str]) -> list[str]:
        program = argv[0]
        if "{" in program or not program or ("/" in program and not program.startswith("/")):
            raise ValueError("argv begins with an absolute path or a name on PATH, without parameters")
        for token in argv:
            if "\x00" in token or not _is_text(token):
                raise ValueError("arguments are Unicode text without NUL")
        return argv

    @model_validator(mode="after")
    def _consistent(self) -> Program:
        used = {name for token in self.argv for _, name in _parts(token) if name}
        if unknown := used - set(self.parameters):
            raise ValueError(f"argv uses {{{min(unknown)}}}, which is not among the parameters")
        if unused := set(self.parameters) - used:
            raise ValueError(f'argv does not use the parameter "{min(unused)}"')
        if set(self.success_codes) & set(self.temporary_codes):
            raise ValueError("an exit code is either a success or temporary")
        if self.effect == "probe" and self.done_if is None:
            raise ValueError("effect: probe needs done_if, which tells whether it happened")
        return self

    def fill(self, values: Mapping[str, str | int]) -> list[str]:
        """The argument list with ``values`` filled in. Raises ValueError that names the parameter."""
        if unknown := set(values) - set(self.parameters):
            raise ValueError(f'there is no parameter "{min(unknown)}"')
        texts = {}
        for name, parameter in self.parameters.items():
            value = values.get(name, parameter.default)
            if value is None:
                raise ValueError(f'parameter "{name}" is missing')
            try:
                texts[name] = parameter.text(value)
            except ValueError as error:
                raise ValueError(f'parameter "{name}" {error}') from None
        return [self._argument(token, texts) for token in self.argv]

    def _argument(self, token: str, texts: Mapping[str, str]) -> str:
        parts = list(_parts(token))
        argument = "".join(literal or texts[name] for literal, name in parts)
        first = parts[0] if parts else ("", "")
        # Only the operator may write an option; a value that looks like one is an attempt to add one.
        if (
            argument.startswith("-")
            and not first[0]
            and not all(self.parameters[name].allow_dash for _, name in parts if name)
        ):
            raise ValueError(f'parameter "{first[1]}" may not begin with a dash')
        return argument
