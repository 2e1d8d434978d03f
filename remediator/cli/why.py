"""``remediator why``: why a run did what it did, or what became of an alert, from the record of a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import labels, print_data, short
from remediator.problem import printable

_RUN = re.compile(r"@latest|[0-9a-z]{26}")


@click.command()
@click.argument("about", nargs=-1, required=True, metavar="RUN|ALERT")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@server_options
def why(about: Sequence[str], output: str, url: str | None, token_file: str | None) -> None:
    """Say why a run did what it did, or what became of an alert.

    RUN is an id or @latest. ALERT is labels as name=value, the first may be only the alert's name:
    remediator why HighQueueDepth namespace=production. The exit status is 1 if nothing is known and no rule answers.
    """
    client = Client(url, token_file)
    if len(about) == 1 and _RUN.fullmatch(about[0]):
        found = client.get("api", "v1", "runs", about[0], "why")
        if output == "text":
            _run(found)
        else:
            print_data(found, output)
        return
    found = client.get("api", "v1", "why", label=_labels(about))
    if output == "text":
        _alert(found)
    else:
        print_data(found, output)
    if not found["incidents"] and not any(rule["matched"] for rule in found["rules"]):
        raise SystemExit(1)


def _labels(words: Sequence[str]) -> list[str]:
    first = words[0] if "=" in words[0] else f"alertname={words[0]}"
    for word in words[1:]:
        if "=" not in word:
            raise click.UsageError(f'"{word}" is not name=value')
    return [first, *words[1:]]


def _say(text: str) -> None:
    click.echo(printable(text))


def _story(story: Sequence[Mapping[str, Any]], indent: str) -> None:
    at = ""
    for told in story:
        when = short(told["at"])
        _say(f"{indent}{when if when != at else ' ' * len(when)}  {told['text']}")
        at = when


def _run(found: Mapping[str, Any]) -> None:
    _say(f"run {found['run']} of rule {found['rule']} is {found['state']} ({found['reason']}): {found['message']}")
    _story(found["story"], "  ")
    for follow in found["follows"]:
        what = "temporary change" if follow["kind"] == "revert" else follow["kind"]
        _say(f"  {what} {follow['id']} is {follow['state']}")
        _story(follow["story"], "    ")


def _alert(found: Mapping[str, Any]) -> None:
    _say(labels(found["labels"]))
    if not found["incidents"]:
        _say("  no incident of such an alert is known: none was delivered, or no rule answered it")
    for entry in found["incidents"]:
        incident = entry["incident"]
        end = f"ended {short(incident['ends_at'])}" if incident["ends_at"] else "still fires"
        _say(f"  incident {incident['id']}: fired {short(incident['starts_at'])}, {end}")
        for run in entry["runs"]:
            _say(f"    run {run['id']} of {run['rule']}: {run['state']} ({run['reason']}): {run['message']}")
    _say("  rules in force:")
    near = [rule for rule in found["rules"] if rule["matched"] or rule["matchers"][0]["matched"]]
    for rule in near:
        _say(f"    {'✓' if rule['matched'] else '✗'} {rule['name']}  mode {rule['mode']}")
        for matcher in rule["matchers"]:
            _say(f"        {'✓' if matcher['matched'] else '✗'} {matcher['text']}")
        if rule["condition"]:
            _say(f"        · condition: {' '.join(rule['condition'].split())}")
    if not near:
        _say(f"    ✗ none of {len(found['rules'])} rules answers to that alert name")
