"""Paths and queries of HTTP requests: checked once, encoded once, sent as they were shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes, urlencode

from pydantic import AfterValidator, Field

# RFC 3986 pchar without ";", which some servers read as the beginning of a path parameter ("/..;/").
_PATH = re.compile(r"(?:[A-Za-z0-9._~:@!$&'()*+,=/-]|%[0-9A-Fa-f]{2})*")
_HIDDEN = frozenset("/\\%?#;.")


def _check_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError('a path begins with "/"; the address before it is the base_url of the target')
    if "?" in text:
        raise ValueError('a path holds no "?"; write the parameters under "query"')
    if _PATH.fullmatch(text) is None:
        raise ValueError("a path holds letters, digits and -._~:@!$&'()*+,=/ only; percent-encode the rest")
    if "//" in text:
        raise ValueError('a path holds no "//"')
    if any(segment in (".", "..") for segment in text.split("/")):
        raise ValueError('a path holds no "." or ".." segment')
    # An escape of a character that means something in a path is how a filter and a server get to disagree.
    for escape in re.findall(r"%[0-9A-Fa-f]{2}", text):
        character = chr(int(escape[1:], 16))
        if character in _HIDDEN or not (character.isprintable() or ord(character) >= 0x80):
            raise ValueError(f'a path may not hide "{escape}"')
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("the percent-escapes of a path must be UTF-8") from None
    return text


def _check_query(query: Mapping[str, str]) -> Mapping[str, str]:
    for text in (*query, *query.values()):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("a query must be valid Unicode text") from None
    return query


Path = Annotated[str, Field(max_length=2000), AfterValidator(_check_path)]
"""A path as it goes over the wire: begins with ``/``, percent-encoded where needed, nothing hidden."""

Query = Annotated[dict[str, str], Field(max_length=50), AfterValidator(_check_query)]
"""Query parameters as plain text; encoded when they are sent."""


def plain_path(path: str) -> str:
    """The path as the server reads it, percent-escapes decoded once: what ``permit.paths`` is compared with."""
    return unquote_to_bytes(path).decode()


def with_query(path: str, query: Mapping[str, str]) -> str:
    """The request target: path and encoded query."""
    return path + ("?" + urlencode(query, quote_via=quote, safe="") if query else "")
