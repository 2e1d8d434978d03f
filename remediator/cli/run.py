"""``remediator run``: what happened, what waits, and a person's answer to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from remediator.cli._client import Client, server_options
from remediator.cli._output import labels, limit_option, line, output_option, print_data, print_list, short
from remediator.cli.pause import reason_option
from remediator.problem import printable
from remediator.run import Found

F = TypeVar("F", bound=Callable[..., Any])
STATES = (
    "queued", "held", "running", "verifying", "succeeded", "failed", "denied", "observed", "cancelled", "expired",
    "needs_human",
)  # fmt: skip
KINDS = ("remedy", "revert", "escalation")
Run = Mapping[str, Any]


@click.group()
def run() -> None:
    """List, look at, approve, reject and cancel runs."""


@run.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; several times.")
@click.option("--rule", default="", help="Only runs of this rule.")
@click.option("--incident", default="", help="Only runs for this incident.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Of these kinds.  [default: remedy]")
@limit_option
@output_option
@server_options
def list_(
    states: Sequence[str],
    rule: str,
    incident: str,
    kinds: Sequence[str],
    limit: int,
    output: str,
    url: str | None,
    token_file: str | None,
) -> None:
    """Runs, newest first."""
    client = Client(url, token_file)
    asked = {"state": list(states), "rule": rule, "incident": incident, "kind": list(kinds)}
    items = client.items("api", "v1", "runs", limit=limit, **asked)
    print_list(
        items,
        output,
        [
            ("ID", lambda item: item["id"]),
            ("RULE", lambda item: item["rule"]),
            ("STATE", lambda item: item["state"]),
            ("REASON", lambda item: item["reason"]),
            ("UPDATED", lambda item: short(item["updated_at"])),
        ],
        [
            ("KIND", lambda item: item["kind"]),
            ("MODE", lambda item: item["mode"]),
            ("TARGETS", lambda item: ",".join(item["targets"])),
            ("ALERT", lambda item: labels(item["incident"]["labels"])),
            ("MESSAGE", lambda item: item["message"]),
        ],
    )


@run.command()
@click.argument("run_id", metavar="ID")
@output_option
@server_options
def get(run_id: str, output: str, url: str | None, token_file: str | None) -> None:
    """One run with everything that led to where it is; @latest is the newest."""
    _show(Client(url, token_file).get("api", "v1", "runs", run_id), output)


def _show(found: Run, output: str) -> None:
    if output == "name":
        click.echo(found["id"])
    elif output in ("json", "yaml"):
        print_data(found, output)
    else:
        _describe(found)


def _describe(found: Run) -> None:
    incident = found["incident"]
    line("Run", found["id"])
    line("Rule", f"{found['rule']} ({found['mode']}, {found['rule_digest'][:12]})")
    line("State", f"{found['state']} ({found['reason']})")
    line("Message", found["message"])
    line("Alert", labels(incident["labels"]))
    ended = f", ended {short(incident['ends_at'])}" if incident["ends_at"] else ""
    line("Fired", short(incident["starts_at"]) + ended)
    line("Created", f"{short(found['created_at'])}, updated {short(found['updated_at'])}")
    for name, seen in found["evidence"].items():
        what = json.dumps(seen.get("value"), ensure_ascii=False) if seen.get("ok") else f"unknown: {seen.get('error')}"
        line("Evidence", f"{name}: {what}")
    for verdict in found["verdicts"]:
        line("Guard", f"{verdict['guard']}: {verdict['decision']} {verdict.get('message') or ''}".rstrip())
    for remedy in found["remedies"]:
        line("Remedy", f"{remedy['name'] or '(unnamed)'}: {remedy['state']} {remedy['message']}".rstrip())
    for step in found["steps"]:
        _step(step)
    for told in found["escalations"]:
        line("Escalation", f"{told['policy']}: {told['state']} ({told['reason']}): {told['message']}")
        for call in told["calls"]:
            who = call["name"] or call["uses"]
            when = call["sent_at"] or call["next_at"]
            line("  call", f"{who}: {call['state']}{' ' + short(when) if when else ''} {call['message']}".rstrip())
    approval = found["approval"]
    if approval is not None:
        _question(approval)


def _step(step: Mapping[str, Any]) -> None:
    outcome = (step["outcome"] or {}).get("summary", "")
    where = f" on {step['target']}" if step["target"] else ""
    line("Step", f"{step['id']}: {step['action']}{where}: {step['state']} {outcome}".rstrip())
    line("  of", step["remedy"] or (step["kind"] if step["kind"] == "finally" else ""))
    if step["change"]:
        line("  change", step["change"]["summary"])
    line("  undoes", step["undoes"])
    line("  temporary", step["revert"])


def _question(approval: Mapping[str, Any]) -> None:
    """The changes exactly as the digest covers them."""
    given = sum(bool(vote["yes"]) for vote in approval["votes"])
    line("Approval", f"{approval['state']}, {given} of {approval['needed']} yes, until {short(approval['expires_at'])}")
    line("Digest", approval["digest"])
    for item in approval["changes"]:
        change = item["change"]
        line("Change", f"{item['id']}: {item['uses']} on {item['target']}: {change['summary']}")
        line("  before", change["before"])
        line("  after", change["after"])


def _answer_options(command: F) -> F:
    command = click.option("--comment", default="", help="Why; kept in the audit log.")(command)
    return click.argument("run_id", metavar="ID")(command)


@run.command()
@_answer_options
@click.option("--digest", default="", help="Approve only if these are still the changes (see `run get`).")
@click.option("--yes", is_flag=True, help="Approve what is asked now, without looking.")
@server_options
def approve(run_id: str, comment: str, digest: str, yes: bool, url: str | None, token_file: str | None) -> None:
    """Let a run make the changes that it asks for.

    Shows the changes and asks. Without a terminal, say which changes are meant (--digest) or that any are (--yes).
    """
    client = Client(url, token_file)
    found = client.get("api", "v1", "runs", run_id)
    approval = found["approval"]
    if approval is None or approval["state"] != "pending":
        why = f"it is {found['state']}: {found['message']}"
        raise click.ClickException(printable(f"run {found['id']} waits for no approval ({why})"))
    if digest and digest != approval["digest"]:
        _question(approval)
        which = f"their digest is {approval['digest']}"
        raise click.ClickException(f"run {found['id']} now asks about other changes; {which}")
    if not digest:
        _describe(found)
        if not yes:
            _confirm("Make these changes?")
    _vote(client, found, "approve", approval["digest"], comment)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("this is no terminal to ask on; add --digest (from `remediator run get`) or --yes")
    click.confirm(question, abort=True, err=True)


def _vote(client: Client, found: Run, word: str, digest: str, comment: str) -> None:
    after = client.post("api", "v1", "runs", found["id"], word, body={"digest": digest, "comment": comment})
    approval = after["approval"]
    votes = f"{len(approval['votes'])} of {approval['needed']} yes" if word == "approve" else after["state"]
    click.echo(f"run {found['id']}: {approval['state']}, {votes}")


@run.command()
@_answer_options
@server_options
def reject(run_id: str, comment: str, url: str | None, token_file: str | None) -> None:
    """Refuse the changes that a run asks for; the run ends as denied."""
    client = Client(url, token_file)
    found = client.get("api", "v1", "runs", run_id)
    if found["approval"] is None:
        raise click.ClickException(f"run {found['id']} waits for no approval (it is {found['state']})")
    _vote(client, found, "reject", found["approval"]["digest"], comment)


@run.command()
@_answer_options
@server_options
def acknowledge(run_id: str, comment: str, url: str | None, token_file: str | None) -> None:
    """Take over a run that needs people: nobody else is called."""
    client = Client(url, token_file)
    if run_id == "@latest":
        run_id = client.get("api", "v1", "runs", run_id)["id"]
    for taken in client.post("api", "v1", "runs", run_id, "acknowledge", body={"comment": comment})["items"]:
        click.echo(f"{taken['policy']}: {taken['acknowledged']['actor']} has taken over")


@run.command()
@click.argument("run_id", metavar="ID")
@reason_option(required=True)
@server_options
def retry(run_id: str, reason: str, url: str | None, token_file: str | None) -> None:
    """Try once more what ended without changing anything, while its alert fires."""
    client = Client(url, token_file)
    if run_id == "@latest":
        run_id = client.get("api", "v1", "runs", run_id)["id"]
    after = client.post("api", "v1", "runs", run_id, "retry", body={"reason": reason})
    click.echo(f"run {after['id']}: {after['state']}")


@run.command()
@_answer_options
@click.option(
    "--found",
    type=click.Choice([each.value for each in Found]),
    help="What became of the effect of a run that needs_human, which then ends as succeeded or failed.",
)
@server_options
def cancel(run_id: str, comment: str, found: str | None, url: str | None, token_file: str | None) -> None:
    """Cancel a run that has not begun to act, or close one that waits for a person."""
    client = Client(url, token_file)
    if run_id == "@latest":
        run_id = client.get("api", "v1", "runs", run_id)["id"]
    after = client.post("api", "v1", "runs", run_id, "cancel", body={"comment": comment, "found": found})
    click.echo(f"run {after['id']}: {after['state']}")
