"""Alertmanager's matchers, ``severity=~"warning|critical"``: read, printed and matched as Alertmanager does.

The grammar is that of Alertmanager's UTF-8 parser
(https://prometheus.io/docs/alerting/latest/configuration/#matcher), narrowed to what its older, "classic"
parser reads the same way: where the two differ, an error says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2

from remediator.errors import InputError

MAX_LENGTH = 4096

OPERATORS = ("=~", "!~", "!=", "=")

_OPERATOR = re.compile("|".join(OPERATORS))
# A word without quotes: anything but white space and the characters that the grammar reserves.
_WORD = re.compile(r"""[^\s{}!=~,\\"'`]+""")
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}
_PLAIN_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# An alternation of plain words needs no regular expression at all: most matchers are one.
_ALTERNATION = re.compile(r"[A-Za-z0-9_\- ]+(?:\|[A-Za-z0-9_\- ]+)*")


class MatcherError(InputError):
    """A text that is no matcher. ``offset`` counts characters from the start of the text."""

    def __init__(self, message: str, offset: int, hint: str = "") -> None:
        super().__init__(f"{message} (character {offset + 1})" + (f"; {hint}" if hint else ""))
        self.message = message
        self.offset = offset
        self.hint = hint


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. A label that is missing has the value ``""``, as in Alertmanager."""

    name: str
    operator: str
    value: str
    _words: frozenset[str] | None = field(init=False, repr=False, compare=False)
    _pattern: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compiles the regular expression. Raises MatcherError."""
        words, pattern = None, None
        if self.operator not in OPERATORS:
            raise MatcherError(f'"{self.operator}" is no operator; there are =, !=, =~ and !~', 0)
        if self.operator in ("=~", "!~"):
            if _ALTERNATION.fullmatch(self.value):
                words = frozenset(self.value.split("|"))
            else:
                try:
                    pattern = _compile(self.value)
                except re2.error as error:
                    raise MatcherError(f"not a regular expression of RE2: {_reason(error)}", 0) from None
        object.__setattr__(self, "_words", words)
        object.__setattr__(self, "_pattern", pattern)

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """The one matcher in ``text``. Raises MatcherError."""
        found = parse_matchers(text)
        if len(found) != 1:
            raise MatcherError(f"expected one matcher, found {len(found)}", 0)
        return found[0]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True when the label's value satisfies the condition; regular expressions match the whole value."""
        value = labels.get(self.name, "")
        if self.operator == "=":
            return value == self.value
        if self.operator == "!=":
            return value != self.value
        if self._words is not None:
            found = value in self._words
        else:
            found = self._pattern.fullmatch(value) is not None
        return found is (self.operator == "=~")

    @property
    def matches_everything(self) -> bool:
        """True when no value at all could fail: ``=~".*"``."""
        return self.operator == "=~" and self.value in (
            ".*",
            "(.*)",
            "(?s).*",
            ".*|.+",
            ".+|.*",
            "|.+",
            ".+|",
        )

    def __str__(self) -> str:
        """The matcher in Alertmanager's syntax; ``Matcher.parse`` reads it back."""
        name = self.name if _PLAIN_NAME.fullmatch(self.name) else _quote(self.name)
        return f"{name}{self.operator}{_quote(self.value)}"


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@lru_cache(maxsize=1 << 14)
def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers in ``text``: one, or several with commas between them, in braces or not.

    ``{}`` is none. Raises MatcherError with the offset of the first thing that is wrong.
    """
    if len(text) > MAX_LENGTH:
        raise MatcherError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH)
    at = _skip(text, 0)
    if at == len(text):
        raise MatcherError("there is no matcher here", 0, 'write one such as severity="critical"')
    braced = text[at] == "{"
    if braced:
        at = _skip(text, at + 1)
    found: list[Matcher] = []
    while at < len(text) and text[at] != "}":
        matcher, at = _one(text, at)
        found.append(matcher)
        at = _skip(text, at)
        if at < len(text) and text[at] == ",":
            at = _skip(text, at + 1)
        elif at < len(text) and text[at] != "}":
            raise MatcherError(
                f'unexpected "{text[at]}" after a matcher',
                at,
                "separate matchers with a comma, and "
                "put double quotes around a value that holds spaces or special characters",
            )
    if braced:
        if at == len(text):
            raise MatcherError('the closing "}" is missing', at)
        at = _skip(text, at + 1)
    if at < len(text):
        raise MatcherError(f'unexpected "{text[at]}"', at, 'a list begins with "{" and ends with one "}"')
    return tuple(found)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _one(text: str, at: int) -> tuple[Matcher, int]:
    """The matcher that begins at ``at``, and where it ends."""
    name, end = _token(text, at, "the name of a label")
    if not name:
        raise MatcherError("the name of a label is empty", at)
    operator_at = _skip(text, end)
    operator = _OPERATOR.match(text, operator_at)
    if operator is None:
        raise MatcherError(f"expected one of =, !=, =~, !~ after {name}", operator_at)
    value_at = _skip(text, operator.end())
    value, end = _token(text, value_at, "a value", shown=operator[0])
    try:
        return Matcher(name, operator[0], value), end
    except MatcherError as error:
        raise MatcherError(error.message, value_at, error.hint) from None


def _token(text: str, at: int, what: str, shown: str = "") -> tuple[str, int]:
    """A word or a text in double quotes, and where it ends."""
    if quoted := _QUOTED.match(text, at):
        return _unescape(quoted[1], at + 1), quoted.end()
    if word := _WORD.match(text, at):
        return word[0], word.end()
    if at < len(text) and text[at] == '"':
        raise MatcherError("the closing double quote is missing", at)
    if at < len(text) and text[at] in "'`":
        raise MatcherError(f"{what} may not begin with {text[at]}", at, 'use double quotes, "…"')
    hint = f'the empty value is {shown}""' if shown else ""
    raise MatcherError(f"expected {what}", at, hint)


def _unescape(body: str, start: int) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise MatcherError(
                f"unknown escape \\{found[1]}",
                start + found.start(),
                f"write \\\\{found[1]} for a backslash that belongs to the value or the regular expression",
            )
        return _ESCAPES[found[1]]

    return _ESCAPE.sub(replace, body) if "\\" in body else body
