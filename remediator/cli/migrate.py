"""``remediator migrate``: bring the schema of a store up to date, or say which migrations it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from remediator.cli._output import print_data
from remediator.cli._places import Place, place, postgres_options

if TYPE_CHECKING:
    from remediator.stores.migrations import Step


@click.command()
@click.option("--status", is_flag=True, help="Change nothing: only say what is applied and what is pending.")
@click.option("--storage.url", "url", metavar="URL", help="The store: sqlite:///path or postgresql://user@host/database.")
@click.option("--config.file", "config_file", metavar="FILE", help="The store of these settings instead.")
@postgres_options
@click.option("--grant-to", "role", default="", metavar="ROLE", help="Let this role of PostgreSQL run the service.")
@click.option("-o", "--output", type=click.Choice(("text", "json", "yaml")), default="text", help="How to print.")
def migrate(
    status: bool, url: str | None, config_file: str | None, schema: str, password_file: str, role: str, output: str
) -> None:
    """Apply the numbered migrations that a store lacks, each whole or not at all.

    `remediator serve` does the same when it starts, unless storage.migrate is false: then run this first, with a role
    that owns the schema. Exit status 1 if the store is newer than this program, and nothing is changed.
    """
    if (url is None) == (config_file is None):
        raise click.UsageError("name the store: either --storage.url or --config.file")
    if config_file is not None:
        from remediator.catalogue import Catalogue
        from remediator.settings import load_settings

        storage = load_settings(config_file, Catalogue()).storage
        url, schema, password_file = storage.url, storage.schema_, storage.password_file or password_file
    where = place(url or "", schema, password_file)
    if role and where.file is not None:
        raise click.UsageError("--grant-to is for PostgreSQL; a SQLite file belongs to whoever owns it")
    before = _steps(where)
    if not status:
        _apply(where, role)
        was = {step.version for step in before if step.applied_at is not None}
        done = [step for step in _steps(where) if step.version not in was]
        _print(done, output, empty="up to date: nothing was to be done")
    else:
        _print(before, output, empty="")


def _steps(where: Place) -> list[Step]:
    if where.file is not None:
        from remediator.stores import _sqlite_file

        return _sqlite_file.schema(str(where.file))
    import asyncio

    from remediator.stores import _postgres_copy, _postgres_migrate

    address = _postgres_copy.address(where.url, schema=where.schema, password_file=where.password_file)
    return asyncio.run(_postgres_migrate.schema(address))


def _apply(where: Place, role: str) -> None:
    if where.file is not None:
        import os

        from remediator.clock import SystemClock
        from remediator.stores import _sqlite_file

        lock = _sqlite_file.take(str(where.file))
        try:
            connection = _sqlite_file.connect(str(where.file))
            try:
                _sqlite_file.migrate(connection, str(where.file), SystemClock().now())
            finally:
                connection.close()
        finally:
            os.close(lock)
        return
    import asyncio

    from remediator.stores import _postgres_copy, _postgres_migrate

    address = _postgres_copy.address(where.url, schema=where.schema, password_file=where.password_file)
    asyncio.run(_postgres_migrate.migrate(address, grant_to=role))


def _print(steps: Sequence[Step], output: str, *, empty: str) -> None:
    from remediator.clock import format_instant

    shown = [
        {
            "version": step.version,
            "name": step.name,
            "applied_at": None if step.applied_at is None else format_instant(step.applied_at),
        }
        for step in steps
    ]
    if output != "text":
        print_data(shown, output)
    elif not shown:
        click.echo(empty)
    else:
        for one in shown:
            click.echo(f"{one['version']:04}  {one['name']:<20}  {one['applied_at'] or 'pending'}")
