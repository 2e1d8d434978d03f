"""``remediator money``: the ledger of transfers on a server, and its comparison with the chain."""

from __future__ import annotations

from typing import Any

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import limit_option, line, output_option, print_data, print_list


@click.group()
def money() -> None:
    """List and look at transfers, and hold the chain against the ledger."""


@money.command("list")
@click.option("--open", "open_only", is_flag=True, help="Only those that are not proven to be over.")
@limit_option
@output_option
@server_options
def list_(open_only: bool, limit: int, output: str, url: str | None, token_file: str | None) -> None:
    """Transfers, newest first."""
    wanted = "true" if open_only else ""
    items = Client(url, token_file).items("api", "v1", "money", "transfers", limit=limit, open=wanted)
    print_list(
        items,
        output,
        [
            ("ID", lambda item: item["id"]),
            ("STATE", lambda item: item["state"]),
            ("AMOUNT", lambda item: item["amount"]),
            ("TO", lambda item: item["payee"]),
            ("FROM", lambda item: item["account"]),
            ("RESERVED", lambda item: item["reserved_at"][:19] + "Z"),
        ],
        [
            ("ADDRESS", lambda item: item["destination"]),
            ("SIGNATURE", lambda item: item["signature"]),
            ("RUN", lambda item: item["run"]),
        ],
        name="id",
    )


@money.command()
@click.argument("transfer")
@output_option
@server_options
def show(transfer: str, output: str, url: str | None, token_file: str | None) -> None:
    """One transfer; with the transaction that somebody must sign, where Remediator does not sign itself."""
    found = Client(url, token_file).get("api", "v1", "money", "transfers", transfer)
    if output == "name":
        click.echo(found["id"])
    elif output in ("json", "yaml"):
        print_data(found, output)
    else:
        _describe(found)


def _describe(found: Any) -> None:
    line("Transfer", found["id"])
    line("State", found["state"] + (f" ({found['reason']})" if found["reason"] else ""))
    line("Amount", f"{found['amount']} ({found['lamports']} lamports), fee at most {found['fee']} lamports")
    line("From", f"{found['account']} ({found['source']})")
    line("To", f"{found['payee']} ({found['destination']})")
    line("Run", found["run"])
    line("Signature", found["signature"])
    line("Slot", found["slot"])
    line("Reserved", found["reserved_at"])
    line("Signed", found["signed_at"])
    line("Closed", found["closed_at"])
    if found["transaction"]:
        click.echo("\nSign and send this transaction; it is settled when two endpoints show it finalized:")
        click.echo(found["transaction"])


@money.command()
@output_option
@server_options
def reconcile(output: str, url: str | None, token_file: str | None) -> None:
    """Hold the chain against the ledger now; exit status 1 unless both match everywhere.

    Whatever differs pauses its target until a person resumes it.
    """
    books = Client(url, token_file).post("api", "v1", "money", "reconcile", body={})["items"]
    if output in ("json", "yaml"):
        print_data(books, output)
    else:
        _tell(books)
    if not all(each["matches"] for each in books):
        raise click.exceptions.Exit(1)


def _tell(books: list[Any]) -> None:
    if not books:
        click.echo("no target holds a treasury")
    for each in books:
        said = "matches" if each["matches"] else each["error"] or f"{len(each['mismatches'])} differ; paused"
        click.echo(f"{each['target']}: {said}")
        for one in each["mismatches"]:
            click.echo(f"  {one['kind']}: {one['message']}")
