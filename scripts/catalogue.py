"""Writes docs/reference/catalogue.md from the catalogue: ``python -m scripts.catalogue``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from remediator.catalogue import Catalogue, summary

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "catalogue.md"

HEAD = """\
# Everything that rules may use

Every action, probe, guard and check that there is, each with a page of its own. `remediator actions`,
`remediator actions --probes` and `remediator guards` print the same lists, with parameters if you add `-o wide`. A
target of the settings has one integration as its `kind`, and permits nothing until it is listed there.

Written from the code by `python -m scripts.catalogue`.

"""

EFFECTS = "The effect says what a crash in the middle means: [effects](../explanation/effects.md)."


def page() -> str:
    """The whole page."""
    catalogue = Catalogue()
    actions, probes = catalogue.describe("actions"), catalogue.describe("probes")
    levers = sorted([*actions, *probes, *catalogue.describe("composites")], key=lambda entry: str(entry["name"]))
    parts = [HEAD, f"## Actions and probes\n\n{EFFECTS}\n"]
    for integration, entries in groupby(levers, key=lambda entry: str(entry["integration"])):
        rows = [(_link(entry, f"integrations/{integration}"), *_kind(entry), _text(entry)) for entry in entries]
        parts.append(f"\n### {integration}\n\n" + _table(("name", "is a", "effect", "what it does"), rows))
    guards = [(_link(entry, "guards"), _text(entry)) for entry in catalogue.describe("guards")]
    parts.append("\n## Guards\n\n" + _table(("name", "what it does"), guards))
    found = [(name, catalogue.check(name)) for name in catalogue.names("checks")]
    checks = [(f"[`{name}`](checks/{name}.md)", _safe(summary(kind))) for name, kind in found if kind is not None]
    parts.append("\n## Checks\n\nWhat `remediator check rules` says of rules that are right but unwise.\n\n")
    parts.append(_table(("name", "what it warns of"), checks))
    return "".join(parts)


def _link(entry: Mapping[str, Any], folder: str) -> str:
    name = str(entry["name"])
    return f"[`{name}`]({folder}/{name.rpartition('.')[2]}.md)"


def _kind(entry: Mapping[str, Any]) -> tuple[str, str]:
    if entry.get("effect") == "composite":
        return ("composite", "that of the step it stands for")
    return ("action", f"`{entry['effect']}`") if "effect" in entry else ("probe", "only looks")


def _text(entry: Mapping[str, Any]) -> str:
    return _safe(str(entry["description"]))


def _safe(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
