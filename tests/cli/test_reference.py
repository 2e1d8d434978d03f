"""Proves that the reference pages of the command line and of HTTP name everything there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from remediator.cli import main
from remediator.web.routes import ROUTES, WEBHOOK
from scripts.catalogue import PAGE, page

ROOT = Path(__file__).parent.parent.parent
OURS = ("serve", "run", "why", "change", "rule", "pause", "resume", "audit", "version")
"""Commands whose options stand on the page; the others are described beside what they check."""
SHARED = {"--help", "--remediator.url", "--token-file", "--output", "--limit", "-o", "-h"}


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


def test_every_command_and_option_stands_on_the_page() -> None:
    """Whoever reads the reference knows every command, and every option of those that serve or ask a server."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    missing = []
    for path, command in _commands(main):
        if path not in page:
            missing.append(path)
        if path.split()[0] in OURS:
            options = {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
            missing += [f"{path} {option}" for option in sorted(options - SHARED) if option not in page]
    assert not missing


def test_every_route_stands_on_the_page_with_its_role() -> None:
    """The table of the API names every route with the role that it really asks for."""
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    written = dict(re.findall(r"^\| `((?:GET|POST) [^`]+)` \| (\w+) \|", page, re.MULTILINE))
    assert written == {f"{route.method} {route.path}": route.role or "everybody" for route in ROUTES}
    assert f"POST {WEBHOOK}" in page


def test_every_problem_stands_on_the_page() -> None:
    """Each word that a client can meet in a problem is explained."""
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "remediator" / "web").glob("*.py"))
    words = set(re.findall(r'Refused\(\s*(?:\d+|status), "([a-z-]+)"', sources))
    alert = (ROOT / "remediator" / "alert.py").read_text()
    words |= {word.replace("_", "-") for word in re.findall(r'DeliveryError\(\s*\d+,\s*"([a-z_]+)"', alert)}
    assert len(words) > 25
    assert not sorted(word for word in words if f"`{word}`" not in page)


def test_the_page_of_everything_is_current() -> None:
    """The list of actions, probes, guards and checks is that of the code; `python -m scripts.catalogue` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_link_between_the_pages_leads_somewhere() -> None:
    """A reader who follows a link finds a page, and on it the heading that the link names."""
    lost = []
    for text in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", _without_code(text.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, heading = link.partition("#")
            page = (text.parent / path).resolve() if path else text
            if not page.exists() or (heading and heading not in _anchors(page)):
                lost.append(f"{text.relative_to(ROOT)}: {link}")
    assert not lost, "\n".join(lost)


def _without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^ *```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """What a link can name on a page: its headings as GitHub writes them, in small letters with dashes."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
