"""``remediator demo``: the whole loop on this machine, from a service in trouble to a verified audit log."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click

from remediator.clock import SystemClock
from remediator.demo.process import ChildError
from remediator.demo.stage import Stage, open_stage
from remediator.demo.story import End, Story, audit_records, brief

COLOURS = {
    "service": "cyan",
    "prometheus": "yellow",
    "stand-in": "yellow",
    "remediator": "green",
    "audit": "magenta",
    "demo": "white",
}


@dataclass
class Terminal:
    """Prints who says what, and how many seconds after the start."""

    clock: SystemClock
    began: float

    def say(self, who: str, what: str) -> None:
        """One line."""
        seconds = self.clock.monotonic() - self.began
        click.echo(f"{seconds:6.1f} s  {click.style(f'{who:<10}', fg=COLOURS[who])}  {what}")

    def record(self, record: Mapping[str, Any]) -> None:
        """One line of the audit log."""
        clock = record["at"].partition("T")[2]
        head = f"  {record['sequence']:>3}  {clock}  {record['event']:<18} {record['actor']:<26}"
        click.echo(f"{head} {brief(record['detail'], 90)}".rstrip())


async def _verify(stage: Stage, terminal: Terminal) -> bool:
    """Let the command line verify the audit log in the database, as an auditor would."""
    argv = ["audit", "verify", "--storage.url", f"sqlite:///{stage.database}"]
    click.echo(f"\n$ remediator {' '.join(argv)}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remediator", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    click.echo(output.decode(errors="replace").rstrip())
    return process.returncode == 0


def _urls(stage: Stage, end: End, *, keep: bool) -> None:
    click.echo("\nTo look at" + (":" if keep else ", when started with --keep:"))
    click.echo(f"  Remediator     {stage.remediator}")
    click.echo(f"  this run       {stage.remediator}/api/v1/runs/{end.run_id}")
    click.echo(f"  the audit log  {stage.remediator}/api/v1/audit")
    click.echo(f"  the service    {stage.minting}/health/detailed")
    if stage.prometheus:
        click.echo(f"  Prometheus     {stage.prometheus}/alerts")
        click.echo(f"  Alertmanager   {stage.alertmanager}")


async def _play(directory: Path, *, prometheus: bool, keep: bool) -> bool:
    """True if the run succeeded and the audit log verifies."""
    clock = SystemClock()
    terminal = Terminal(clock, clock.monotonic())
    terminal.say("demo", f"everything runs on 127.0.0.1 and lives in {directory}")
    async with open_stage(directory, clock, prometheus=prometheus) as stage:
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in stage.children)
        terminal.say("demo", f"started: {names}")
        if not stage.prometheus:
            terminal.say("demo", "captured alerts take the place of Prometheus and Alertmanager")
        good = False
        try:
            end = await Story(stage, clock, terminal.say).tell()
            if not end.run_id:
                terminal.say("demo", "no run was opened in time")
            click.echo("\nThe audit log:")
            for record in await audit_records(stage):
                terminal.record(record)
            good = await _verify(stage, terminal) and end.good
            _urls(stage, end, keep=keep)
        except (aiohttp.ClientError, TimeoutError) as error:
            terminal.say("demo", f"a process stopped answering: {error!r}")
        if not good:
            click.echo("\nThe demonstration failed. The ends of the logs:\n" + stage.tails(), err=True)
        if keep and good:
            click.echo("\nEverything keeps running. Ctrl-C ends it.")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return good


async def _until_told(directory: Path, *, prometheus: bool, keep: bool) -> bool:
    """Play; a signal ends it and every process it started, in order."""
    playing = asyncio.ensure_future(_play(directory, prometheus=prometheus, keep=keep))
    told = False

    def end() -> None:
        # Only the first one counts: a second one would interrupt the ending of the processes.
        nonlocal told
        if not told:
            told = True
            playing.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sig, end)
    return await playing


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep databases, settings and logs in this folder, which must be empty or new.",
)
@click.option("--no-prometheus", is_flag=True, help="Send captured alerts even where Prometheus is installed.")
def demo(keep: bool, directory: Path | None, no_prometheus: bool) -> None:
    """Show the whole loop on this machine, without any set-up.

    A small real service gets into trouble, an alert fires, Remediator looks, asks its guards, acts, and sees
    the alert resolve. Ends by itself in about half a minute; exit status 0 only if the run succeeded and the
    audit log verifies.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise click.UsageError(f"--directory: {directory} is not empty; name a new or an empty folder")
    place = (directory or Path(tempfile.mkdtemp(prefix="remediator-demo-"))).resolve()
    good = False
    try:
        with contextlib.suppress(asyncio.CancelledError):
            good = asyncio.run(_until_told(place, prometheus=not no_prometheus, keep=keep))
    except ChildError as error:
        click.echo(f"The demonstration could not start: {error}", err=True)
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)
    sys.exit(0 if good else 1)
