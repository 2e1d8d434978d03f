"""Texts as Slack shows them: escaped, so that nothing of an alert becomes a mention, a link or a command.

Sources: Slack, "Formatting message text" (escaping) and "Block Kit: blocks" (limits of each block).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.excerpt import left_out, shorten

TEXT = 4000
"""The longest text that Slack recommends for one message, in characters."""
HEADER = 150
SECTION = 3000
BLOCKS = 50


def escape(text: str) -> str:
    """``text`` with the three characters of Slack's control sequences replaced: ``<!channel>`` stays what it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_WIDTH = {"&": 5, "<": 4, ">": 4}


def escaped(text: str, limit: int) -> str:
    """The escaped ``text`` in at most ``limit`` characters, never cut inside an escape; what is missing is told."""
    if sum(_WIDTH.get(character, 1) for character in text[: limit + 1]) <= limit:
        return escape(text)
    room, kept = limit - len(left_out(len(text))), 0
    for character in text:
        room -= _WIDTH.get(character, 1)
        if room < 0:
            break
        kept += 1
    return escape(text[:kept]) + left_out(len(text) - kept)


def mentions(names: Sequence[str]) -> str:
    """The control sequences of those to be called: ``here``, ``channel``, users (``U…``) and user groups (``S…``)."""
    made = []
    for name in names:
        if name in ("here", "channel", "everyone"):
            made.append(f"<!{name}>")
        else:
            made.append(f"<!subteam^{name}>" if name.startswith("S") else f"<@{name}>")
    return " ".join(made)


def section(text: str) -> dict[str, Any]:
    """A block of text that is already escaped. ``verbatim``: Slack adds no links and mentions of its own."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def blocks(
    title: str, text: str, sections: Sequence[Mapping[str, str]], links: Mapping[str, str], called: str
) -> list[dict[str, Any]]:
    """The message as Block Kit; what does not fit into Slack's number of blocks is told."""
    made: list[dict[str, Any]] = []
    if title:
        header = {"type": "plain_text", "text": shorten(title, HEADER), "emoji": False}
        made.append({"type": "header", "text": header})
    if called:
        made.append(section(called))
    if text:
        made.append(section(escaped(text, SECTION)))
    # One block is for what was left out, one for the links, and one for buttons.
    room = BLOCKS - 3 - len(made)
    for part in sections[:room]:
        name = f"*{escaped(part['title'], 200)}*\n"
        made.append(section(name + escaped(part["text"], SECTION - len(name))))
    if len(sections) > room:
        made.append(section(f"… [{len(sections) - room} sections left out]"))
    if links:
        made.append(section(_links(links)))
    return made


def _links(links: Mapping[str, str]) -> str:
    shown: list[str] = []
    length = 0
    for name, url in links.items():
        one = f"<{escape(url)}|{escaped(name, 200)}>"
        length += len(one) + 3
        if length > SECTION - 50:
            shown.append(f"… [{len(links) - len(shown)} links left out]")
            break
        shown.append(one)
    return " · ".join(shown)
