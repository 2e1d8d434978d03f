"""``remediator storage``: move everything that a store keeps to another one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from remediator.cli._places import Place, place, postgres_options

if TYPE_CHECKING:
    from remediator.stores.copy import Copied, OpenEnd


@click.group()
def storage() -> None:
    """Move everything that a store keeps."""


@storage.command()
@click.argument("source")
@click.argument("destination")
@postgres_options
def copy(source: str, destination: str, schema: str, password_file: str) -> None:
    """Copy everything from SOURCE to the empty DESTINATION: history, runs, pauses, and the audit as it is.

    Both are addresses, sqlite:///path or postgresql://user@host/database. Stop every service on either first. The
    audit is verified where it arrives and the rows of every table are counted; only then is anything committed, so an
    interrupted copy leaves the destination empty and is simply begun again. SOURCE is not changed: do not start a
    service on it again.
    """
    from_, to = place(source, schema, password_file), place(destination, schema, password_file)
    if from_ == to or (from_.file is not None and to.file is not None and from_.file.resolve() == to.file.resolve()):
        raise click.UsageError("SOURCE and DESTINATION are the same store")
    copied = asyncio.run(_copy(from_, to))
    click.echo(f"{copied.audit.message}\nhead    {copied.audit.head}")


async def _copy(from_: Place, to: Place) -> Copied:
    from remediator.clock import SystemClock
    from remediator.stores.copy import copy as copy_store

    clock = SystemClock()
    ends = _end(from_, clock.now(), empty=False), _end(to, clock.now(), empty=True)
    return await copy_store(*ends, clock.now, lambda table, rows: click.echo(f"{table:<16}{rows:>12}"))


def _end(where: Place, now: float, *, empty: bool) -> OpenEnd:
    if where.file is not None:
        from remediator.stores._sqlite_copy import sqlite_end

        return sqlite_end(where.file, now, empty=empty)
    from remediator.stores import _postgres_copy

    address = _postgres_copy.address(where.url, schema=where.schema, password_file=where.password_file)
    return _postgres_copy.postgres_end(address, empty=empty)
