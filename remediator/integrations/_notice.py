"""What every notification has in common: texts that fit and say what was left out, and what a refusal means."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Answer, Unanswered

# Control characters but line feed and tab; the line separators that some programs take for a new line; surrogates,
# which are no text; and the marks that turn the direction of writing, with which a text can show another one.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SPACES = re.compile(r"\s+")
_REFUSED_FOR_NOW = frozenset({408, 420, 425, 429})


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


def link(url: str) -> str:
    """A web address that can stand in a message. Raises ValueError for any other text."""
    if re.fullmatch(r"https?://[!-~]{1,1990}", url) is None or any(character in url for character in "<>|\"'\\`{}^"):
        raise ValueError("a link is an http:// or https:// address in printable ASCII, percent-encoded where needed")
    return url


Text = Annotated[str, AfterValidator(plain)]
"""Text of any number of lines."""

Line = Annotated[str, AfterValidator(one_line)]
"""Text on one line."""

Link = Annotated[str, AfterValidator(link)]
"""A web address."""

Links = Annotated[dict[Annotated[str, Field(min_length=1, max_length=100), AfterValidator(one_line)], Link], Field()]
"""What a link is called → its address."""


def refusal(said: str, answer: Answer) -> Exception:
    """What a status that is no success says about a notification; ``said`` names who answered what.

    TemporaryError and PermanentError where it certainly was not taken; Unanswered where it may have been.
    """
    status = answer.status
    wait = f", asks to wait {answer.retry_after} s" if answer.retry_after.isdigit() else ""
    if status in _REFUSED_FOR_NOW or (status == 503 and answer.retry_after):
        return TemporaryError(f"{said}: refused for now{wait}", reason=f"status_{status}")
    if 300 <= status < 400:
        return PermanentError(f"{said}, a redirect, which is not followed", reason="redirect")
    if 400 <= status < 500:
        return PermanentError(f"{said}: refused", reason=f"status_{status}")
    return Unanswered(f"{said}, which does not say whether it was taken")
