"""``remediator guard``: what breakers and storms hold now, and their release by a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import short
from remediator.cli.pause import reason_option
from remediator.problem import printable


@click.group()
def guard() -> None:
    """What guards hold until it is over or a person releases it."""


@guard.command("list")
@server_options
def list_states(url: str | None, token_file: str | None) -> None:
    """Open breakers, and a storm that is on."""
    _say(Client(url, token_file).get("api", "v1", "guards"))


@guard.command()
@click.argument("name", type=click.Choice(["breaker", "storm"]))
@click.option("--rule", default="", help="Only what is open for this rule.")
@click.option("--target", default="", help="Only what is open for this target.")
@reason_option(required=True)
@server_options
def release(name: str, rule: str, target: str, reason: str, url: str | None, token_file: str | None) -> None:
    """Release a breaker or a storm.

    What it held looks again before it acts; what failed before does not count any more.
    """
    if rule and target:
        raise click.UsageError("--rule and --target exclude each other; release twice")
    scope = f"rule:{rule}" if rule else f"target:{target}" if target else ""
    body = {"scope": scope, "reason": reason}
    _say(Client(url, token_file).post("api", "v1", "guards", name, "release", body=body))


def _say(states: Mapping[str, Any]) -> None:
    if not states["items"]:
        click.echo("no guard holds anything")
    for item in states["items"]:
        until = f", at least until {short(item['until'])}" if item["until"] else ""
        told = f"{item['guard']} {item['scope']}: open since {short(item['since'])}{until}: {item['why']}"
        click.echo(printable(told))
