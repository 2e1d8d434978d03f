"""``remediator audit``: read the audit log, prove that it is whole, take it away; also without a server."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import limit_option, output_option, print_data, print_list, short
from remediator.cli._places import postgres_options

if TYPE_CHECKING:
    from remediator.audit import AuditRecord

F = TypeVar("F", bound=Callable[..., Any])
_BATCH = 1000


def _storage_option(command: F) -> F:
    return click.option(
        "--storage.url", "storage_url", metavar="URL",
        help="Read this database instead of asking a server: sqlite:///path or postgresql://user@host/database.",
    )(postgres_options(command))  # fmt: skip


@click.group()
def audit() -> None:
    """List, verify and export the audit log."""


@audit.command("list")
@click.option("--run", "run_id", default="", help="Only this run.")
@click.option("--rule", default="", help="Only this rule.")
@click.option("--event", default="", help="Only this event, such as run.denied.")
@limit_option
@output_option
@server_options
def list_(
    run_id: str, rule: str, event: str, limit: int, output: str, url: str | None, token_file: str | None
) -> None:
    """The newest records, oldest of them first."""
    client = Client(url, token_file)
    items = client.items("api", "v1", "audit", limit=limit, run=run_id, rule=rule, event=event)[::-1]
    print_list(
        items,
        output,
        [
            ("SEQUENCE", lambda item: item["sequence"]),
            ("AT", lambda item: short(item["at"])),
            ("EVENT", lambda item: item["event"]),
            ("ACTOR", lambda item: item["actor"]),
            ("RULE", lambda item: item["rule"]),
            ("RUN", lambda item: item["run_id"]),
        ],
        [("DETAIL", lambda item: json.dumps(item["detail"], ensure_ascii=False))],
        name="sequence",
    )


@audit.command()
@click.argument("file", required=False)
@click.option("--anchor", "anchor_file", metavar="FILE", help="What `verify -o json` printed once, kept elsewhere.")
@click.option("-o", "--output", type=click.Choice(("text", "json", "yaml")), default="text", help="How to print.")
@_storage_option
@server_options
@click.pass_context
def verify(
    context: click.Context,
    file: str | None,
    anchor_file: str | None,
    output: str,
    storage_url: str | None,
    schema: str,
    password_file: str,
    url: str | None,
    token_file: str | None,
) -> None:
    """Recompute the chain of digests; exit status 1 if a record was changed, removed, inserted or reordered.

    Asks the server, or reads FILE (an export as jsonl) or a database (--storage.url), also beside a running service.
    Keep what -o json prints in another place: with --anchor, a chain that was cut short or rewritten since is found.
    """
    from remediator.anchor import Walk, read_anchor

    anchor = read_anchor(_text(anchor_file)) if anchor_file else None
    if file is None and storage_url is None:
        kept = {"records": str(anchor.records), "head": anchor.head} if anchor else {}
        found = Client(url, token_file).get("api", "v1", "audit", "verify", **kept)
    else:
        walk = Walk(anchor)
        for batch in _batches(file, storage_url, schema, password_file):
            if not walk.add(batch):
                break
        found = walk.result()._asdict()
    if output == "text":
        click.echo(f"{'ok' if found['ok'] else 'BROKEN'}: {found['message']}")
        click.echo(f"records {found['records']}\nhead    {found['head']}")
    else:
        print_data(found, output)
    context.exit(0 if found["ok"] else 1)


@audit.command()
@click.argument("file", required=False)
@click.option(
    "--format", "form", type=click.Choice(("jsonl", "csv")), default="jsonl", show_default=True,
    help="jsonl can be verified again.",
)
@_storage_option
@server_options
def export(
    file: str | None,
    form: str,
    storage_url: str | None,
    schema: str,
    password_file: str,
    url: str | None,
    token_file: str | None,
) -> None:
    """Every record with its digests, to standard output.

    Asks the server, which records the export, or reads FILE (an export as jsonl) or a database (--storage.url).
    """
    if file is None and storage_url is None:
        for piece in Client(url, token_file).stream("api", "v1", "audit", "export", format=form):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    batches = _batches(file, storage_url, schema, password_file)
    if form == "csv":
        from remediator.audit import AuditRecord

        writer = csv.writer(sys.stdout)
        writer.writerow(AuditRecord._fields)
        for batch in batches:
            writer.writerows(batch)
    else:
        for batch in batches:
            for record in batch:
                click.echo(json.dumps(record._asdict(), ensure_ascii=False))


@audit.command("accept-loss")
@click.option("--reason", required=True, help="Why, such as the backup that was put back; kept in the audit.")
@server_options
def accept_loss(reason: str, url: str | None, token_file: str | None) -> None:
    """Take the store as it is although history is missing, so that rules may act by themselves again.

    The server refuses to act without approval while its audit is shorter than, or another one than, its checkpoint says
    (see /-/ready?verbose). Look first at what may have been done in the lost time: limits and pauses of then are gone.
    """
    found = Client(url, token_file).post("api", "v1", "audit", "accept-loss", body={"reason": reason})
    click.echo(f"accepted: the audit is trusted from its {found['records']} records on\nhead    {found['head']}")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: cannot be read: {error}") from None


def _batches(file: str | None, storage_url: str | None, schema: str, password_file: str) -> Iterator[list[AuditRecord]]:
    if file is not None and storage_url is not None:
        raise click.UsageError("FILE and --storage.url exclude each other")
    if file is not None:
        return _exported(file)
    from pydantic import ValidationError

    from remediator.settings import Storage
    from remediator.stores.offline import read_audit_file

    try:
        storage = Storage(url=storage_url or "")
    except ValidationError as error:
        raise click.ClickException(f"--storage.url: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if storage.postgres:
        return _of_postgres(storage.url, schema, password_file)
    return read_audit_file(storage.path)


def _of_postgres(url: str, schema: str, password_file: str) -> Iterator[list[AuditRecord]]:
    """The records of a PostgreSQL store, beside whoever uses it."""
    import asyncio

    from remediator.clock import SystemClock
    from remediator.errors import StoreError
    from remediator.ids import SystemIds
    from remediator.stores.postgres import PostgresStore

    clock = SystemClock()
    store = PostgresStore(
        url,
        clock=clock,
        ids=SystemIds(clock),
        schema=schema,
        password_file=password_file,
        migrate=False,
        pool_size=2,
    )
    with asyncio.Runner() as runner:
        try:
            runner.run(store.open())
            after = 0
            while batch := list(runner.run(store.audit(after=after, limit=_BATCH))):
                yield batch
                after = batch[-1].sequence
        except StoreError as error:
            raise click.ClickException(str(error)) from None  # It names the place, and never a password.
        finally:
            runner.run(store.close())


def _exported(file: str) -> Iterator[list[AuditRecord]]:
    batch: list[AuditRecord] = []
    try:
        with open(file, encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                batch.append(_record(file, number, text))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: cannot be read: {error}") from None
    if batch:
        yield batch


def _record(file: str, number: int, text: str) -> AuditRecord:
    from remediator.audit import AuditRecord

    try:
        data = json.loads(text)
        record = AuditRecord(**data)
    except (ValueError, TypeError, RecursionError):
        raise click.ClickException(f"{file}:{number}: not a record of an export as jsonl") from None
    numbers = type(record.sequence) is int and type(record.at) in (int, float)
    if not numbers or not all(isinstance(value, str) for value in record[2:]):
        raise click.ClickException(f"{file}:{number}: not a record of an export as jsonl")
    return record
