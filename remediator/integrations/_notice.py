"""What every notification has in common: the types of its texts and links, and what a refusal means."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from remediator.errors import PermanentError, TemporaryError
from remediator.excerpt import is_link, one_line, plain
from remediator.integrations._client import Answer, Unanswered

_REFUSED_FOR_NOW = frozenset({408, 420, 425, 429})


def link(url: str) -> str:
    """A web address that can stand in a message. Raises ValueError for any other text."""
    if not is_link(url):
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
