"""``remediator version``: which version this is, and what it runs on."""

from __future__ import annotations

import platform

import click

from remediator import __version__
from remediator.cli._output import print_data


@click.command()
@click.option("-o", "--output", type=click.Choice(("text", "json", "yaml")), default="text", help="How to print.")
def version(output: str) -> None:
    """Which version this is."""
    found = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    if output == "text":
        click.echo(f"remediator {found['version']} (Python {found['python']}, {found['platform']})")
    else:
        print_data(found, output)
