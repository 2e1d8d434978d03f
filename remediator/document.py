"""YAML files that people write: strict YAML 1.2 core values, and where in the file each of them stands.

Built on the parser's events, because a loader drops duplicate keys silently, reads ``no`` as false and
``12:30`` as 750 (YAML 1.1), and recurses into whatever depth a file has. Positions are found again only when
a report needs one: ten thousand rules keep their text, and no index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import yaml

from remediator.problem import Problem, ProblemsError, Severity

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a document to a value."""

Mark = tuple[int, int]
"""Line and column, both from 1."""

# Loaded once: libyaml is ten times faster; where PyYAML was built without it the pure parser does the same.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# What YAML 1.1 readers, and therefore people, take for something else than YAML 1.2 does.
_SURPRISES = (
    (
        re.compile(r"yes|Yes|YES|on|On|ON"),
        "is true to some YAML readers and text to others",
        "write true, or quote",
    ),
    (
        re.compile(r"no|No|NO|off|Off|OFF"),
        "is false to some YAML readers and text to others",
        "write false, or quote",
    ),
    (
        re.compile(r"[-+]?0[0-9]+"),
        "is an octal number to some YAML readers",
        "drop the leading zero, or quote",
    ),
    (
        re.compile(
            r"[-+]?0b[01_]+|0o[0-7]+|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?"
            r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]*\.[0-9]*[eE][0-9]+"
        ),
        "is a number to some YAML readers and text to others",
        "write its digits only, or quote",
    ),
    (
        re.compile(r"[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?"),
        "is a number in base 60 to some YAML readers",
        "quote",
    ),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"), "is a date to some YAML readers", "quote"),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "is no number that JSON could hold", "quote"),
)
# The password in an address, which no report repeats.
_PASSWORD = re.compile(r"(://[^/\s:@]*:)([^/\s@]+)(?=@)")
# What a text must begin with to be a number or a surprise: most are neither.
_SUSPECT = re.compile(r"[-+.0-9]|[yYnNoO]")
# Characters that YAML forbids, and those that make a line read differently from what it does (bidirectional
# controls, CVE-2021-42574).
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")


class Document:
    """One file: its plain ``data`` (dict, list, str, int, float, bool, None), its text and its places."""

    __slots__ = ("__dict__", "data", "file", "text")

    def __init__(self, file: str, text: str, data: Any) -> None:
        self.file = file
        self.text = text
        self.data = data

    @cached_property
    def _lines(self) -> list[str]:
        return _split(self.text)

    @cached_property
    def _marks(self) -> dict[Path, tuple[Mark, Mark]]:
        return _find_marks(self.text)

    def place(self, path: Path, *, key: bool = False, needle: str = "", offset: int = 0) -> Mark:
        """Where the value at ``path`` begins, or its key; where ``path`` is missing, where its parent begins.

        With ``needle``, the text that the value holds, the place is ``offset`` characters into that text
        where it stands unchanged in one line of the file (no escapes, no folding).
        """
        while path not in self._marks and path:
            path, needle = path[:-1], ""
        marks = self._marks.get(path)
        if marks is None:
            return (1, 1)
        line, column = marks[0 if key else 1]
        if needle and not key:
            at = self._lines[line - 1].find(needle, column - 1)
            if column - 1 <= at <= column:
                column = at + 1 + offset
        return (line, column)

    def problem(
        self,
        path: Path,
        id: str,
        message: str,
        *,
        hint: str = "",
        severity: Severity = Severity.ERROR,
        key: bool = False,
        needle: str = "",
        offset: int = 0,
    ) -> Problem:
        """A problem at ``path``; the other arguments are those of ``place`` and of Problem."""
        line, column = self.place(path, key=key, needle=needle, offset=offset)
        return _problem(self.file, self._lines, (line, column), id, message, hint, severity)


def load_document(file: str, raw: bytes) -> Document:
    """The document in ``raw``; ``file`` is only a name for reports.

    Raises ProblemsError with everything that the text itself has wrong.
    """
    text = _decode(file, raw)
    problems: list[Problem] = []
    lines: list[str] = []

    def report(mark: Mark, id: str, message: str, hint: str) -> None:
        if not lines:
            lines.extend(_split(text))
        problems.append(_problem(file, lines, mark, id, message, hint))

    for found in _FORBIDDEN.finditer(text):
        report(
            _mark_at(text, found.start()),
            "yaml/character",
            f"the character U+{ord(found[0]):04X} may not stand in a file",
            'write it as an escape in double quotes, like "\\u200B", if it is meant',
        )
    if problems:
        raise ProblemsError(problems)
    data: Any = None
    try:
        data = _Builder(report).build(_events(text))
    except _StopReading:
        pass
    except yaml.YAMLError as error:
        report(*_syntax(text, error))
    if problems:
        raise ProblemsError(problems)
    return Document(file, text, data)


def read_bounded(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, cut where ``load_document`` refuses it anyway. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def _decode(file: str, raw: bytes) -> str:
    whole = (0, 0)
    if len(raw) > MAX_BYTES:
        message = f"the file has more than {MAX_BYTES} bytes"
        raise ProblemsError([_problem(file, [], whole, "yaml/size", message, "split it into several files")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}"
        raise ProblemsError([_problem(file, [], whole, "yaml/encoding", message, "save it as UTF-8")]) from None


def _events(text: str) -> Iterator[Any]:
    """The parser's events; those of libyaml are asked for directly, half the calls of ``yaml.parse``."""
    loader = _LOADER(text)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


def _split(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def _mark_at(text: str, index: int) -> Mark:
    before = _split(text[:index])
    return (len(before), len(before[-1]) + 1)


def _problem(
    file: str,
    lines: Sequence[str],
    mark: Mark,
    id: str,
    message: str,
    hint: str,
    severity: Severity = Severity.ERROR,
) -> Problem:
    line, column = mark
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    source = _PASSWORD.sub(lambda match: match[1] + "*" * len(match[2]), source)
    return Problem(
        file=file,
        line=line,
        column=column,
        severity=severity,
        id=id,
        message=message,
        hint=hint,
        source=source,
    )


def _syntax(text: str, found: yaml.YAMLError) -> tuple[Mark, str, str, str]:
    """Where and why ``text`` is no YAML.

    ``found`` is what the fast parser said. The pure one says it better, so it reads the file again.
    """
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.YAMLError as better:
        found = better
    if not isinstance(found, yaml.MarkedYAMLError):
        return (1, 1), "yaml/syntax", f"the file is not YAML: {found}", ""
    mark = found.problem_mark or found.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    line = [*_split(text), ""][place[0] - 1]
    message = " ".join(part for part in (found.context, found.problem) if part)
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return place, "yaml/syntax", "a tab may not indent a line", "use spaces"
    if line.lstrip().startswith(("- {", "- [")) or "mapping values are not allowed" in message:
        hint = "quote a value that holds a colon and a space"
    elif "${{" in line or "`" in line or "%" in line or "@" in line:
        hint = "quote a value that begins with a special character"
    else:
        hint = ""
    return place, "yaml/syntax", message or "the file is not YAML", hint


@lru_cache(maxsize=1 << 15)
def plain(text: str) -> tuple[Any, tuple[str, str] | None]:
    """What an unquoted scalar means in YAML 1.2's core schema, and why it is refused where readers disagree."""
    if text in _CONSTANTS or _SUSPECT.match(text) is None:
        return _CONSTANTS.get(text, text), None
    for pattern, why, instead in _SURPRISES:
        if pattern.fullmatch(text):
            return text, (why, f'{instead} it: "{text}"')
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            return text, ("is too large a number", f'quote it: "{text[:40]}"')
        return number, None
    return text, None


def _integer(text: str) -> tuple[Any, tuple[str, str] | None]:
    base = 16 if text.startswith("0x") else 10
    # The length is looked at first: reading a number takes time with the square of its digits.
    if len(text) <= 24 and -(2**63) <= (number := int(text, base)) < 2**63:
        return number, None
    return text, ("has more than 64 bits", f'quote it: "{text[:40]}"')


_MISSING: Any = object()


class _StopReading(Exception):
    """Ends a pass early; the report is already made."""


class _Builder:
    """Turns events into data, without recursion.

    ``container`` is the innermost open one (None at the root) and ``key`` the key in it that waits for its value;
    those around it wait on the stack.
    """

    def __init__(self, report: Callable[[Mark, str, str, str], None]) -> None:
        self.report = report
        self.root: Any = None
        self.container: Any = None
        self.key: Any = _MISSING
        self.stack: list[tuple[Any, Any]] = []
        self.documents = 0

    def build(self, events: Iterator[Any]) -> Any:
        """The data of the one document."""
        known: dict[str, Any] = {}
        for event in events:
            if type(event) is not yaml.ScalarEvent:
                self._structure(event)
                continue
            text = event.value
            if event.anchor or event.tag:
                self._refuse_extras(event)
            if event.style:
                value = text
            elif (value := known.get(text, _MISSING)) is _MISSING:
                value, surprise = plain(text)
                if surprise is None:
                    known[text] = value
                else:
                    self._say(event, "yaml/ambiguous", f"{text[:40]} {surprise[0]}", surprise[1])
            container = self.container
            if type(container) is dict:
                if self.key is not _MISSING:
                    container[self.key] = value
                    self.key = _MISSING
                elif type(value) is str and value not in container and value != "<<":
                    self.key = value
                else:
                    self._odd_key(value, event)
            else:
                self._put(value)
        return self.root

    def _put(self, value: Any) -> None:
        """Puts ``value`` where the innermost container expects it: as root, as item, or as value of its key."""
        container = self.container
        if container is None:
            self.root = value
        elif type(container) is list:
            container.append(value)
        else:
            container[self.key] = value
            self.key = _MISSING

    def _structure(self, event: Any) -> None:
        """An event that begins or ends something, or repeats it."""
        kind = type(event)
        if kind is yaml.MappingStartEvent:
            self._open({}, event)
        elif kind is yaml.SequenceStartEvent:
            self._open([], event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self.container, self.key = self.stack.pop()
        elif kind is yaml.AliasEvent:
            self._say(event, "yaml/alias", f"*{event.anchor} repeats another value", "write the value out")
            raise _StopReading
        elif kind is yaml.DocumentStartEvent:
            self.documents += 1
            if self.documents == 2:
                self._say(event, "yaml/documents", "a second document begins here", "put it into its own file")
                raise _StopReading

    def _open(self, container: Any, event: Any) -> None:
        if event.anchor or event.tag:
            self._refuse_extras(event)
        if len(self.stack) >= MAX_DEPTH:
            self._say(event, "yaml/depth", f"values are nested deeper than {MAX_DEPTH}", "flatten the file")
            raise _StopReading
        if type(self.container) is dict and self.key is _MISSING:
            self._say(event, "yaml/key", "a map or a list cannot be a key", "write the key as text")
            raise _StopReading
        self._put(container)
        self.stack.append((self.container, self.key))
        self.container, self.key = container, _MISSING

    def _odd_key(self, key: Any, event: Any) -> None:
        """A key that is refused; reading goes on, to find what else is wrong."""
        if type(key) is not str:
            shown = event.value or "this"
            self._say(event, "yaml/key", f"{shown} is not text, and a key must be", f'quote it: "{shown}"')
            key = str(key)
        elif key == "<<" and not event.style:
            self._say(event, "yaml/alias", "<< merges another map into this one", "write its keys out")
        elif key in self.container:
            self._say(event, "yaml/duplicate-key", f'the key "{key}" stands twice in this map', "keep one of the two")
        self.key = key

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor:
            hint = "write the value out where it is used"
            self._say(event, "yaml/alias", f"&{event.anchor} names a value for reuse", hint)
        if event.tag and event.tag != "!":
            hint = "drop it; quote what must be text"
            self._say(event, "yaml/tag", f"the tag {event.tag} is not supported", hint)

    def _say(self, event: Any, id: str, message: str, hint: str) -> None:
        self.report(_mark(event), id, message, hint)


def _mark(event: Any) -> Mark:
    return (event.start_mark.line + 1, event.start_mark.column + 1)


def _find_marks(text: str) -> dict[Path, tuple[Mark, Mark]]:
    """Of every path in a text that was read without problems: where its key and its value begin."""
    marks: dict[Path, tuple[Mark, Mark]] = {}
    root = yaml.compose(text, Loader=_LOADER)
    waiting: list[tuple[Path, Mark | None, Any]] = [((), None, root)] if root is not None else []
    while waiting:
        path, key, node = waiting.pop()
        here = _mark(node)
        marks[path] = (key or here, here)
        if isinstance(node, yaml.MappingNode):
            waiting += [((*path, k.value), _mark(k), value) for k, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [((*path, index), None, item) for index, item in enumerate(node.value)]
    return marks
