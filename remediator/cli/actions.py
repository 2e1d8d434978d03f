"""``remediator actions`` and ``remediator guards``: what rules may use here, with parameters and effect classes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from remediator.catalogue import Catalogue
from remediator.cli._listing import FORMATS, chosen, print_entries

_output = click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--probes", is_flag=True, help="List probes instead of actions.")
@_output
def actions(names: Sequence[str], probes: bool, output: str) -> None:
    """List the actions that rules may use, with their effect classes."""
    family = "probes" if probes else "actions"
    catalogue = Catalogue()
    known = catalogue.describe(family) + ([] if probes else catalogue.describe("composites"))
    known.sort(key=lambda each: str(each["name"]))
    entries = chosen(known, names, f"remediator actions{' --probes' if probes else ''}")
    print_entries(entries, ("name", "description") if probes else ("name", "effect", "description"), output)


@click.command()
@click.argument("names", nargs=-1)
@_output
def guards(names: Sequence[str], output: str) -> None:
    """List the guards that rules may use."""
    entries = chosen(Catalogue().describe("guards"), names, "remediator guards")
    print_entries(entries, ("name", "shorthand", "description"), output)
