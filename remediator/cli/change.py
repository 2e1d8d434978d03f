"""``remediator change``: temporary changes in force, and a person's word to put one back now or to keep it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import limit_option, line, output_option, print_data, print_list, short
from remediator.cli.pause import reason_option
from remediator.cli.run import STATES
from remediator.problem import printable


@click.group()
def change() -> None:
    """Temporary changes: list, look at, put back now, make permanent."""


@change.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; default: in force.")
@click.option("--rule", default="", help="Only changes of this rule.")
@limit_option
@output_option
@server_options
def list_(
    states: Sequence[str], rule: str, limit: int, output: str, url: str | None, token_file: str | None
) -> None:
    """Temporary changes in force, newest first."""
    client = Client(url, token_file)
    print_list(
        client.items("api", "v1", "changes", limit=limit, state=list(states), rule=rule),
        output,
        [
            ("ID", lambda item: item["id"]),
            ("CHANGE", lambda item: item["summary"]),
            ("TARGET", lambda item: item["target"]),
            ("MADE", lambda item: short(item["made_at"])),
            ("DEADLINE", lambda item: short(item["deadline"])),
        ],
        [
            ("RULE", lambda item: item["rule"]),
            ("RUN", lambda item: item["run"]),
            ("SUBJECT", lambda item: item["subject"]),
            ("STATE", lambda item: f"{item['state']} ({item['reason']})"),
            ("MESSAGE", lambda item: item["message"]),
        ],
    )


@change.command()
@click.argument("change_id", metavar="ID")
@output_option
@server_options
def get(change_id: str, output: str, url: str | None, token_file: str | None) -> None:
    """One temporary change, also one that has gone back."""
    found = Client(url, token_file).get("api", "v1", "changes", change_id)
    if output == "name":
        click.echo(found["id"])
        return
    if output in ("json", "yaml"):
        print_data(found, output)
        return
    line("Change", found["id"])
    line("What", f"{found['summary']} ({found['action']} on {found['target']})")
    line("Before", found["before"])
    line("After", found["after"])
    line("Made", f"{short(found['made_at'])} by step {found['step']} of run {found['run']} ({found['rule']})")
    line("Goes back", f"once the alert has stayed resolved for {found['settle']}, or at {short(found['deadline'])}")
    line("State", f"{found['state']} ({found['reason']})")
    line("Message", found["message"])


@change.command()
@click.argument("change_id", metavar="ID")
@reason_option(required=True)
@server_options
def revert(change_id: str, reason: str, url: str | None, token_file: str | None) -> None:
    """Put a temporary change back now."""
    after = Client(url, token_file).post("api", "v1", "changes", change_id, "revert", body={"reason": reason})
    click.echo(printable(f"change {after['id']} goes back now: {after['summary']}"))


@change.command()
@click.argument("change_id", metavar="ID")
@reason_option(required=True)
@server_options
def keep(change_id: str, reason: str, url: str | None, token_file: str | None) -> None:
    """Make a temporary change permanent."""
    after = Client(url, token_file).post("api", "v1", "changes", change_id, "keep", body={"reason": reason})
    click.echo(printable(f"change {after['id']} stays for good: {after['summary']}"))
