"""How settings and rules name things in PostgreSQL, and how those names are written into SQL."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""The name of something in the settings of a target: a statement, a kind of row, a dump."""

Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
"""The name of a column, in the case in which the table has it."""

Table = Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_$]{0,62}\.)?[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
"""The name of a table, with its schema if it is not on the search path."""


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text") from None
    if "\x00" in text:
        raise ValueError("PostgreSQL knows no NUL character")
    return text


LONGEST = 10_000
"""Characters of the longest value."""

Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_text)]
"""A value, always sent as a bound parameter and never as a part of SQL."""


def _application(text: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise ValueError("an application_name is printable ASCII (PostgreSQL replaces everything else)")
    return text


Application = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(_application)]
"""An application_name; ``*`` stands for any text."""


User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.$@-]{0,62}$")]
"""The name of a role or a database."""


def quoted(name: str) -> str:
    """``name`` as an identifier of SQL; each part of a dotted name by itself."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def like(pattern: str) -> str:
    """``pattern``, in which ``*`` stands for any text, as a pattern of LIKE."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
