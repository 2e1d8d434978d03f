"""A program that the operator lets rules run inside a container; rules choose it by name and add nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.clock import Duration

COMMAND = r"^[a-z][a-z0-9_-]{0,62}$"
"""The name of a command."""


class ContainerCommand(BaseModel):
    """Argument list, and what is known about running it twice."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    argv: list[Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]] = Field(
        min_length=1, max_length=100, description="Program and arguments; there is no shell and no placeholder."
    )
    effect: Literal["once", "idempotent"] = Field(
        default="once",
        description="May it be run again after a crash? `once`: no, a person decides; `idempotent`: twice equals once.",
    )
    timeout: Duration = Field(default=30.0, gt=0, le=600, description="How long it may take.")
    max_output: int = Field(
        default=16_384, ge=256, le=1_048_576, description="How many bytes of each stream are kept, from the end."
    )
