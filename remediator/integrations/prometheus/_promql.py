"""Putting values into PromQL: the one function that quotes them, and the one that finds where they go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# A comment, a string in each of PromQL's three quotes, an operator that takes a regular expression, or a variable.
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | `[^`]*`)
      | (?P<quote>["'`])
      | (?P<regex>=~|!~)
      | \$(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"


def promql_string(text: str) -> str:
    """``text`` as a PromQL string in double quotes; whatever it holds, it stays one string.

    PromQL takes the escapes of Go's interpreted strings. Everything but printable ASCII is written as ``\\uXXXX``
    or ``\\UXXXXXXXX``, so nothing depends on how a server reads control characters. Raises ValueError for lone
    surrogates, which are not text.
    """
    text.encode()
    parts = []
    for character in text:
        code = ord(character)
        if character in '"\\':
            parts.append("\\" + character)
        elif 0x20 <= code < 0x7F:
            parts.append(character)
        else:
            parts.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def literal_regex(text: str) -> str:
    """An RE2 pattern that matches exactly ``text``, as Go's regexp.QuoteMeta writes it."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def _tokens(query: str) -> Iterator[re.Match[str]]:
    return _TOKEN.finditer(query)


def check(query: str, names: frozenset[str]) -> None:
    """Raises ValueError unless each ``$name`` of ``query`` is in ``names``, used, and outside of quotes."""
    found = set()
    for token in _tokens(query):
        if token["quote"]:
            raise ValueError(f"the query has a string that is not closed, beginning at {query[token.start() :][:20]}")
        if token["name"]:
            found.add(token["name"])
        if token["string"]:
            for name in names:
                if re.search(rf"\${name}(?![A-Za-z0-9_])", token["string"]):
                    raise ValueError(f"${name} stands inside quotes; write it without: quotes are added, pod=${name}")
    if unknown := found - names:
        raise ValueError(f"${min(unknown)} is not among the variables")
    if unused := names - found:
        raise ValueError(f'the query does not use the variable "{min(unused)}"; write ${min(unused)} in it')


def fill(query: str, variables: Mapping[str, str]) -> str:
    """``query`` with each ``$name`` replaced by its value as a PromQL string.

    After ``=~`` and ``!~`` the value is matched literally: a label can never widen a selector.
    """
    parts = []
    after_regex = False
    for token in _tokens(query):
        if name := token["name"]:
            value = variables[name]
            parts.append(promql_string(literal_regex(value) if after_regex else value))
        else:
            parts.append(token[0])
        if not token["space"] and not token["comment"]:
            after_regex = token["regex"] is not None
    return "".join(parts)
