"""``remediator rule``: the rules in force on a server, and the pause of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import limit_option, line, output_option, print_data, print_list, short
from remediator.cli.pause import body_of, for_option, reason_option, say


@click.group()
def rule() -> None:
    """List, look at, pause and resume rules."""


@rule.command("list")
@limit_option
@output_option
@server_options
def list_(limit: int, output: str, url: str | None, token_file: str | None) -> None:
    """Rules in force, by name."""
    items = Client(url, token_file).items("api", "v1", "rules", limit=limit)
    print_list(
        items,
        output,
        [
            ("NAME", lambda item: item["name"]),
            ("MODE", _mode),
            ("ALERTS", lambda item: ",".join(item["alerts"])),
            ("PAUSED", lambda item: item["paused"]["reason"] if item["paused"] else ""),
        ],
        [
            ("OWNER", lambda item: item["owner"]),
            ("TARGETS", lambda item: ",".join(item["targets"])),
            ("FILE", lambda item: item["file"]),
            ("DIGEST", lambda item: item["digest"][:12]),
        ],
        name="name",
    )


def _mode(item: Any) -> str:
    mode, effective = str(item["mode"]), str(item["effective_mode"])
    return mode if mode == effective else f"{effective} (wants {mode})"


@rule.command()
@click.argument("name")
@output_option
@server_options
def get(name: str, output: str, url: str | None, token_file: str | None) -> None:
    """One rule in force, as it was written, and what became of its runs."""
    found = Client(url, token_file).get("api", "v1", "rules", name)
    if output == "name":
        click.echo(found["name"])
    elif output in ("json", "yaml"):
        print_data(found, output)
    else:
        line("Rule", found["name"])
        line("About", found["description"])
        line("Owner", found["owner"])
        line("Runbook", found["runbook_url"])
        line("Mode", _mode(found))
        line("Alerts", ", ".join(found["alerts"]))
        line("File", found["file"])
        line("Digest", found["digest"])
        if found["paused"]:
            line("Paused", f"{found['paused']['reason']} (by {found['paused']['actor']})")
        _tally(found["tally"])
        click.echo()
        print_data(found["rule"], "yaml")


def _tally(tally: Mapping[str, Any]) -> None:
    """What an observed rule would have done, and what an acting one has."""
    problems = f"{tally['matched']} problem{'' if tally['matched'] == 1 else 's'}"
    line("Matched", problems + (f" since {short(tally['since'])}" if tally["since"] else ""))
    if tally["would_have_acted"]:
        alone = f"{tally['self_resolved']} of them went away without this rule"
        half = f", half of those within {tally['self_resolved_after']}" if tally["self_resolved"] else ""
        line("Would act", f"{tally['would_have_acted']} times; {alone}{half}")
    if tally["verified_fixed"]:
        line("Fixed", f"{tally['verified_fixed']}, verified, half of them within {tally['verified_fixed_after']}")
    for title, key, told in (
        ("Done", "done", "acted, and nobody asked whether it helped"),
        ("Idle", "nothing_to_do", "found that there was nothing to do"),
        ("Ineffective", "ineffective", "acted, and the problem was still there"),
        ("Failed", "failed", "failed in another way"),
        ("Denied", "denied", "were not allowed to act"),
        ("Needs human", "needs_human", "wait for a person"),
        ("Expired", "expired", "came too late"),
        ("Cancelled", "cancelled", "ended before they acted"),
        ("Live", "live", "go on"),
    ):
        if tally[key]:
            line(title, f"{tally[key]} {told}")


@rule.command()
@click.argument("name")
@for_option
@reason_option(required=True)
@server_options
def pause(name: str, duration: str | None, reason: str, url: str | None, token_file: str | None) -> None:
    """Stop one rule from acting; its runs are held."""
    say(Client(url, token_file).post("api", "v1", "rules", name, "pause", body=body_of(reason, duration)))


@rule.command()
@click.argument("name")
@reason_option(required=False)
@server_options
def resume(name: str, reason: str, url: str | None, token_file: str | None) -> None:
    """End the pause of one rule; the runs that it held look again."""
    say(Client(url, token_file).post("api", "v1", "rules", name, "resume", body={"reason": reason}))
