"""Environment variables of a container: their names, and their values where they may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

from remediator.errors import PermanentError
from remediator.integrations.kubernetes._thing import Thing
from remediator.redact import redact_text

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
"""The name of an environment variable."""


def value_of(container: Mapping[str, Any], name: str, thing: Thing) -> str | None:
    """The value of a variable; None where there is none. Raises PermanentError for what must stay out."""
    known = {str(each.get("name")): each for each in container.get("env") or [] if isinstance(each, Mapping)}
    entry = known.get(name)
    if entry is None:
        return None
    if "valueFrom" in entry:
        raise PermanentError(
            f"{name} of {thing} comes from a Secret, ConfigMap or field; it is left alone", reason="value_from"
        )
    value = str(entry.get("value", ""))
    if redact_text(value) != value:
        raise PermanentError(
            f"{name} of {thing} holds something that looks like a secret; it is left alone, because it could neither "
            "be shown nor be taken back",
            reason="secret_value",
        )
    return value
