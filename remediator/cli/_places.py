"""Which store a command means: the place in an address or in the settings, for commands that need no server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Place(NamedTuple):
    """A store: the file of a SQLite one, or the address of a PostgreSQL one and what opens it."""

    file: Path | None
    url: str
    schema: str
    password_file: str


def postgres_options(command: F) -> F:
    """Adds ``--storage.schema`` and ``--storage.password-file``, which SQLite does not need."""
    command = click.option(
        "--storage.schema", "schema", default="remediator", show_default=True, metavar="NAME",
        help="The schema, for PostgreSQL.",
    )(command)  # fmt: skip
    return click.option(
        "--storage.password-file", "password_file", default="", metavar="FILE",
        help="The password, for PostgreSQL; never in the address. Default: as libpq finds it.",
    )(command)  # fmt: skip


def place(url: str, schema: str, password_file: str) -> Place:
    """The store at ``url``. Raises ClickException with what to write instead."""
    if url.partition(":")[0] in ("postgresql", "postgres"):
        return Place(None, url, schema, password_file)
    from pydantic import ValidationError

    from remediator.settings import Storage

    try:
        return Place(Storage(url=url).path, url, "", "")
    except ValidationError as error:
        raise click.ClickException(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
