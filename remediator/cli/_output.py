"""Prints what a server answered: as a table, JSON, YAML or names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from remediator.problem import printable

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("table", "wide", "json", "yaml", "name")


def output_option(command: F) -> F:
    """Adds ``-o``, which reaches the command as ``output``."""
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
    )(command)


def limit_option(command: F) -> F:
    """Adds ``--limit``."""
    return click.option(
        "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many."
    )(command)


Column = tuple[str, Callable[[Mapping[str, Any]], object]]


def print_list(
    items: Sequence[Mapping[str, Any]], output: str, columns: Sequence[Column], wide: Sequence[Column], name: str = "id"
) -> None:
    """``items`` in one of FORMATS; ``wide`` are the columns that only the wide table has, ``name`` the naming key."""
    if output == "name":
        for item in items:
            click.echo(printable(str(item[name])))
    elif output in ("json", "yaml"):
        print_data(list(items), output)
    else:
        _table(items, [*columns, *wide] if output == "wide" else columns)


def print_data(data: Any, output: str) -> None:
    """``data`` as JSON or YAML."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _table(items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    rows = [[title for title, _ in columns]]
    # Labels come from outside: nothing of them may reach the terminal as a command.
    rows += [[printable(str(value(item) or "-")) for _, value in columns] for item in items]
    widths = [max(len(row[n]) for row in rows) for n in range(len(columns))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def line(title: str, value: object) -> None:
    """One line of a description, if there is something to say."""
    if value not in (None, "", [], {}):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{title + ':':<13} {printable(text)}")


def labels(value: Mapping[str, str]) -> str:
    """Labels as ``a=b c=d``, the alert's name first."""
    rest = [f"{name}={text}" for name, text in sorted(value.items()) if name != "alertname"]
    return " ".join([value["alertname"], *rest] if "alertname" in value else rest)


def short(instant: str | None) -> str:
    """An RFC 3339 time without fractions."""
    if not instant:
        return ""
    return datetime.fromisoformat(instant).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
