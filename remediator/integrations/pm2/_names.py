"""Names of pm2's processes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""The name of a process as in the ecosystem file; it has one or more instances."""

ALL = "all"
"""What pm2 itself reserves for everything that the daemon runs."""

Id = Annotated[int, Field(ge=0, le=1_000_000)]
"""The number that pm2 gave to one instance."""


def permission(name: str) -> dict[str, str]:
    """What ``permit`` must hold: everything needs the entry ``*``, which no name is."""
    return {"processes": "*" if name == ALL else name}


def subject(name: str) -> str:
    """``process/<name>``; the whole target for everything."""
    return "" if name == ALL else f"process/{name}"
