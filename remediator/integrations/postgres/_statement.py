"""Statements as the operator declares them: their SQL, what rules may fill in, and how much they may give or change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.clock import Duration
from remediator.integrations.postgres._names import Column, Name, Text

Given = Text | int | float | bool
"""What a rule may give for a parameter."""


class Parameter(BaseModel):
    """One bound parameter. The first of the list is ``$1``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name = Field(description="The name under which rules give it.")
    type: Literal["string", "integer", "number", "boolean"] = Field(
        default="string", description="What it is; it must fit what PostgreSQL infers, so write `$1::int`."
    )
    choices: list[str] | None = Field(default=None, min_length=1, description="The texts that are accepted.")
    minimum: float | int | None = Field(default=None, description="The smallest number accepted.")
    maximum: float | int | None = Field(default=None, description="The largest number accepted.")
    default: str | int | float | bool | None = Field(default=None, description="The value if the rule gives none.")

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        numeric = self.type in ("integer", "number")
        if self.choices is not None and self.type != "string":
            raise ValueError("choices are for type: string")
        if not numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError("minimum and maximum are for numbers")
        if self.default is not None:
            self.value(self.default)
        return self

    def value(self, given: Given) -> Given:
        """What is bound. Raises ValueError with what is accepted."""
        if self.type == "boolean":
            if not isinstance(given, bool):
                raise ValueError("must be true or false")
            return given
        if self.type == "string":
            if not isinstance(given, str):
                raise ValueError("must be text")
            if self.choices is not None and given not in self.choices:
                raise ValueError(f"must be one of {', '.join(self.choices)}")
            return given
        return self._number(given)

    def _number(self, given: Given) -> Given:
        if isinstance(given, bool | str) or (self.type == "integer" and not isinstance(given, int)):
            raise ValueError("must be a whole number" if self.type == "integer" else "must be a number")
        if not (self.minimum is None or given >= self.minimum):
            raise ValueError(f"must be at least {self.minimum}")
        if not (self.maximum is None or given <= self.maximum):
            raise ValueError(f"must be at most {self.maximum}")
        if not -(2**63) <= given < 2**63:
            raise ValueError("must be a number of at most 64 bits")
        return float(given) if self.type == "number" else given


class Statement(BaseModel):
    """One statement of SQL. Rules choose it by name; they never write SQL."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sql: str = Field(min_length=1, max_length=20_000, description="One statement; `$1` is the first parameter.")
    description: str = Field(default="", description="What it does, for people.")
    parameters: list[Parameter] = Field(default_factory=list, max_length=50, description="What rules may fill in.")
    changes: bool = Field(
        default=False, description="True for a statement of `postgres.execute`; others are read only."
    )
    max_rows: int = Field(
        default=100, ge=1, le=10_000, description="The most rows that are kept, or that it may change."
    )
    timeout: Duration | None = Field(
        default=None, gt=0, le=3600, description="How long it may take; the target's timeout if absent."
    )
    hide: list[Column] = Field(default_factory=list, description="Columns whose values are never shown or kept.")
    effect: Literal["once", "idempotent"] = Field(
        default="once", description="May it be run again after a crash? `once`: no, a person decides."
    )
    undo: Name | None = Field(default=None, description="The statement that takes it back, with the same parameters.")
    unattended: bool = Field(default=False, description="True if it may be executed without anybody's approval.")

    @model_validator(mode="after")
    def _consistent(self) -> Statement:
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError("each parameter has a name of its own")
        if not self.changes and (self.undo is not None or self.effect != "once" or self.unattended):
            raise ValueError("undo, effect and unattended are for statements with changes: true")
        return self

    def bind(self, given: Mapping[str, Given]) -> list[Given]:
        """The values for ``$1``, ``$2`` and so on. Raises ValueError that names the parameter."""
        if unknown := set(given) - {parameter.name for parameter in self.parameters}:
            raise ValueError(f'there is no parameter "{min(unknown)}"')
        values = []
        for parameter in self.parameters:
            value = given.get(parameter.name, parameter.default)
            if value is None:
                raise ValueError(f'parameter "{parameter.name}" is missing')
            try:
                values.append(parameter.value(value))
            except ValueError as error:
                raise ValueError(f'parameter "{parameter.name}" {error}') from None
        return values
