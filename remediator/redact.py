"""Keeps secrets out of everything that leaves: takes them out of JSON values by what they are, not by where they stand.

Registered secrets (tokens read from files, passwords of URLs) are found wherever they occur; besides those, texts whose
shape gives them away: JWTs (RFC 7519), payment card numbers that pass the Luhn check (ISO/IEC 7812-1), PEM private keys
(RFC 7468) and credentials after ``Bearer`` or ``Basic`` (RFC 9110 section 11.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "[redacted]"
"""What stands where a secret was."""

SHORTEST = 8
"""Texts shorter than this are no secrets: they would black out innocent words everywhere."""


class _Known:
    """The registered secrets, and one pattern that finds any of them."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Longest first, so that a secret that begins like another one is not left with its tail showing."""
        self.secrets.add(secret)
        self.pattern = re.compile("|".join(re.escape(each) for each in sorted(self.secrets, key=len, reverse=True)))


_known = _Known()


def register_secret(text: str) -> None:
    """From now on ``text`` never leaves. Texts shorter than SHORTEST characters are not registered."""
    secret = text.strip()
    if len(secret) >= SHORTEST and secret not in _known.secrets:
        _known.add(secret)
        _remembered.cache_clear()


# Hostile text must not make matching slow: a run of letters is entered at its beginning only (the look-behinds), and
# what follows is bounded or always ends in a match.
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{2,}+\.[A-Za-z0-9_-]*+")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)")
_CREDENTIALS = re.compile(r"\b(Bearer|Basic)(\s{1,8})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:]{0,200}:)[^\s/@]{1,400}(@)", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-])")


def redact_text(text: str) -> str:
    """``text`` with every secret replaced by MASK."""
    length = len(text)
    if length < SHORTEST:
        return text
    return _remembered(text) if length <= _SHORT else _redacted(text)


_SHORT = 128
"""Texts up to this long are mostly the same few words again and again: their answers are remembered."""


@lru_cache(maxsize=8192)
def _remembered(text: str) -> str:
    return _redacted(text)


def _redacted(text: str) -> str:
    if _known.pattern is not None:
        text = _known.pattern.sub(MASK, text)
    if "eyJ" in text:
        text = _JWT.sub(MASK, text)
    if "PRIVATE KEY" in text:
        text = _PEM.sub(MASK, text)
    if "://" in text:
        text = _USERINFO.sub(rf"\1{MASK}\2", text)
    text = _CREDENTIALS.sub(rf"\1\2{MASK}", text)
    return _CARD.sub(_card, text)


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d if n % 2 == 0 else d * 2 - 9 * (d > 4) for n, d in enumerate(reversed(digits))]
    # Card numbers begin with 2 to 6; this spares most serial numbers and instants in milliseconds.
    return MASK if sum(doubled) % 10 == 0 and digits[0] in range(2, 7) else match.group()


def redact(value: Any) -> Any:
    """A JSON value without secrets; keys are looked at too. Whatever holds none is returned as it is."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {redact_text(key) if isinstance(key, str) else key: redact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner) for inner in value]
    return value
