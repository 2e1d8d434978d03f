"""``remediator pause`` and ``resume``: the kill switch, for everything, one rule or one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import short
from remediator.problem import printable

F = TypeVar("F", bound=Callable[..., Any])


def for_option(command: F) -> F:
    """Adds ``--for``, which reaches the command as ``duration``."""
    return click.option("--for", "duration", metavar="DURATION", help="How long, like 2h; until resumed if absent.")(
        command
    )


def reason_option(*, required: bool) -> Callable[[F], F]:
    """Adds ``--reason``."""
    if required:
        return click.option("--reason", required=True, help="Why; shown to everybody and kept in the audit.")
    return click.option("--reason", default="", help="Why; kept in the audit.")


def _scope_options(command: F) -> F:
    command = click.option("--target", default="", help="Only this target.")(command)
    return click.option("--rule", default="", help="Only this rule.")(command)


def _scope(rule: str, target: str) -> str:
    if rule and target:
        raise click.UsageError("--rule and --target exclude each other; pause twice")
    return f"rule:{rule}" if rule else f"target:{target}" if target else "global"


def body_of(reason: str, duration: str | None) -> dict[str, Any]:
    """The request that pauses."""
    return {"reason": reason, **({"for": duration} if duration else {})}


def say(pauses: Mapping[str, Any]) -> None:
    """Print what is paused now."""
    if not pauses["items"]:
        click.echo("nothing is paused")
    for item in pauses["items"]:
        until = f"until {short(item['until'])}" if item["until"] else "until resumed"
        click.echo(printable(f"paused: {item['scope']} {until}: {item['reason']} (by {item['actor']})"))


@click.command()
@_scope_options
@for_option
@reason_option(required=True)
@server_options
def pause(
    rule: str, target: str, duration: str | None, reason: str, url: str | None, token_file: str | None
) -> None:
    """Stop everything, one rule or one target from acting.

    Takes effect with the answer: no action is begun after it. What is under way is finished and verified.
    """
    body = {"scope": _scope(rule, target), **body_of(reason, duration)}
    say(Client(url, token_file).post("api", "v1", "pause", body=body))


@click.command()
@_scope_options
@reason_option(required=False)
@server_options
def resume(rule: str, target: str, reason: str, url: str | None, token_file: str | None) -> None:
    """End a pause; the runs that it held look again before they act."""
    body = {"scope": _scope(rule, target), "reason": reason}
    say(Client(url, token_file).post("api", "v1", "resume", body=body))
