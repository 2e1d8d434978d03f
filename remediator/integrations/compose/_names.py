"""Names inside a Compose project."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Service = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A service of the Compose file."""

Number = Annotated[int, Field(ge=1, le=10_000)]
"""Which of a service's containers: the label com.docker.compose.container-number."""

Grace = Annotated[int, Field(ge=0, le=3600)]
"""Seconds between the signal that ends a container and the one that kills it."""

EVERYTHING = {"services": "*"}
"""What the permissions of a whole project are asked for; only an entry ``*`` allows it."""
