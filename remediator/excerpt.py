"""Texts for people that fit where they go: cut with a word about it, and without characters that cannot be seen."""

from __future__ import annotations

import re

# Control characters but line feed and tab; the line separators that some programs take for a new line; surrogates,
# which are no text; and the marks that turn the direction of writing, with which a text can show another one.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_URL = re.compile(r"https?://[!-~]{1,1990}")
_SPACES = re.compile(r"\s+")


def shorten(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters; what was left out is told at its end."""
    if len(text) <= limit:
        return text
    # The number that is told changes the length of the telling by a digit at most.
    room = max(0, limit - len(left_out(len(text))))
    return text[:room].rstrip() + left_out(len(text) - room)


def left_out(count: int) -> str:
    """What stands at the end of a text of which ``count`` characters are missing."""
    return f"… [{count} characters left out]"


def plain(text: str) -> str:
    """``text`` with everything that cannot be seen made visible; nothing is dropped for it, or a page could be lost."""
    return _INVISIBLE.sub("�", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """``text`` on a single line: any white space, line ends above all, becomes one space."""
    return plain(_SPACES.sub(" ", text).strip())


def is_link(text: str) -> bool:
    """Whether ``text`` is a web address that can stand in a message, and nothing besides."""
    return _URL.fullmatch(text) is not None and not any(character in text for character in "<>|\"'\\`{}^")
