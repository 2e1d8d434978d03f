"""Printing what the catalogue holds: the same for actions and guards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

FORMATS = ("table", "wide", "json", "yaml", "name")


def print_entries(entries: Sequence[Mapping[str, Any]], columns: Sequence[str], output: str) -> None:
    """Prints ``entries`` in one of ``FORMATS``; ``columns`` are those of the table."""
    if output == "json":
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(list(entries), sort_keys=False, allow_unicode=True), nl=False)
    elif output == "name":
        for entry in entries:
            click.echo(entry["name"])
    else:
        _table(entries, columns, wide=output == "wide")


def _table(entries: Sequence[Mapping[str, Any]], columns: Sequence[str], *, wide: bool) -> None:
    head = [column.upper() for column in columns]
    rows = [[_cell(entry.get(column)) for column in columns] for entry in entries]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(columns))]
    click.echo(_line(head, widths))
    for row, entry in zip(rows, entries, strict=True):
        click.echo(_line(row, widths))
        if wide:
            needed = entry["parameters"].get("required", [])
            for name, schema in entry["parameters"].get("properties", {}).items():
                mark = " (required)" if name in needed else ""
                click.echo(f"    {name}{mark}: {schema.get('description', '')}")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def chosen(entries: Sequence[Mapping[str, Any]], names: Sequence[str], hint: str) -> list[Mapping[str, Any]]:
    """The entries called ``names``, or all. Exits 1 when there is none of that name."""
    if not names:
        return list(entries)
    by_name = {entry["name"]: entry for entry in entries}
    for name in names:
        if name not in by_name:
            click.echo(f'error: nothing is named "{name}"; {hint} lists all', err=True)
            raise SystemExit(1)
    return [by_name[name] for name in names]
