"""YAML files that people write: strict YAML 1.2 core values, and where in the file each of them stands.

Built on the parser's events, because a loader drops duplicate keys silently, reads ``no`` as false and
``12:30`` as 750 (YAML 1.1), and recurses into whatever depth a file has. Positions are found again only when
a report needs one: ten thousand rules keep their text, and no index.
"""

from __future__ import annotations

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
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
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
        re.compile(r"[-+]?0b[01_]+|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?"),
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
# Characters that YAML forbids, and those that make a line read differently from what it does (bidirectional
# controls, CVE-2021-42574).
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)


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
        marks: dict[Path, tuple[Mark, Mark]] = {}
        _Builder(_events(self.text), lambda *_: None, marks).build()
        return marks

    def place(self, path: Path, *, key: bool = False, needle: str = "", offset: int = 0) -> Mark:
        """Where the value at ``path`` begins, or its key; where ``path`` is missing, where its parent begins.

        With ``needle``, the text that the value holds, the place is ``offset`` characters into that text where it
        stands unchanged in one line of the file (no escapes, no folding).
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
        data = _Builder(_events(text), report, None).build()
    except _StopReading:
        pass
    except yaml.MarkedYAMLError:
        report(*_syntax(text))
    if problems:
        raise ProblemsError(problems)
    return Document(file, text, data)


def _decode(file: str, raw: bytes) -> str:
    whole = (0, 0)
    if len(raw) > MAX_BYTES:
        message = f"the file has {len(raw)} bytes; {MAX_BYTES} are the most"
        raise ProblemsError([_problem(file, [], whole, "yaml/size", message, "split it into several files")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}"
        raise ProblemsError(
            [_problem(file, [], whole, "yaml/encoding", message, "save it as UTF-8")]
        ) from None


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


def _syntax(text: str) -> tuple[Mark, str, str, str]:
    """Where and why ``text`` is no YAML.

    The pure parser says it better than libyaml, so it reads the file again.
    """
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.MarkedYAMLError as error:
        found = error
    else:
        return (1, 1), "yaml/syntax", "the file is not YAML", ""
    mark = found.problem_mark or found.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    line = _split(text)[place[0] - 1] if place[0] <= len(_split(text)) else ""
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
    if text in _CONSTANTS:
        return _CONSTANTS[text], None
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
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # The length is looked at first: reading a number takes time with the square of its digits.
    if len(text) <= 24 and -(2**63) <= (number := int(text, base)) < 2**63:
        return number, None
    return text, ("has more than 64 bits", f'quote it: "{text[:40]}"')


_MISSING: Any = object()


class _Builder:
    """Turns events into data without recursion; with ``marks`` it also notes where each path stands."""

    def __init__(
        self,
        events: Iterator[Any],
        report: Callable[[Mark, str, str, str], None],
        marks: dict[Path, tuple[Mark, Mark]] | None,
    ) -> None:
        self.events = events
        self.report = report
        self.marks = marks
        self.root: Any = None
        # The open containers: [container, key that waits for its value, mark of that key].
        self.stack: list[list[Any]] = []
        self.path: list[str | int] = []
        self.documents = 0

    def build(self) -> Any:
        """The data of the one document."""
        stack, unmarked = self.stack, self.marks is None
        for event in self.events:
            if type(event) is not yaml.ScalarEvent:
                self._structure(event)
                continue
            value = self._scalar(event) if event.anchor or event.tag or not event.style else event.value
            # Most of a file is "key: value", read without marks: two lines of the general case, here for speed.
            if unmarked and stack and stack[-1][1] is not _MISSING:
                frame = stack[-1]
                frame[0][frame[1]] = value
                frame[1] = _MISSING
            else:
                self._put(value, event)
        return self.root

    def _structure(self, event: Any) -> None:
        """An event that begins or ends something, or repeats it."""
        kind = type(event)
        if kind is yaml.MappingStartEvent:
            self._open({}, event)
        elif kind is yaml.SequenceStartEvent:
            self._open([], event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self.stack.pop()
            if self.stack:
                self._close_value()
        elif kind is yaml.AliasEvent:
            self._say(event, "yaml/alias", f"*{event.anchor} repeats another value", "write the value out")
            self._put(None, event)
        elif kind is yaml.DocumentStartEvent:
            self.documents += 1
            if self.documents == 2:
                self._say(
                    event, "yaml/documents", "a second document begins here", "put it into its own file"
                )
                raise _StopReading

    def _say(self, event: Any, id: str, message: str, hint: str) -> None:
        self.report((event.start_mark.line + 1, event.start_mark.column + 1), id, message, hint)

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            self._say(
                event,
                "yaml/alias",
                f"&{event.anchor} names a value for reuse",
                "write the value out where it is used",
            )
        if event.tag is not None and event.tag != "!":
            self._say(
                event, "yaml/tag", f"the tag {event.tag} is not supported", "drop it; quote what must be text"
            )

    def _scalar(self, event: Any) -> Any:
        if event.anchor is not None or event.tag is not None:
            self._refuse_extras(event)
        if not event.implicit[0] or event.style:
            return event.value
        value, surprise = plain(event.value)
        if surprise is not None:
            self._say(event, "yaml/ambiguous", f"{event.value} {surprise[0]}", surprise[1])
        return value

    def _open(self, container: Any, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_extras(event)
        if len(self.stack) >= MAX_DEPTH:
            self._say(event, "yaml/depth", f"values are nested deeper than {MAX_DEPTH}", "flatten the file")
            raise _StopReading
        if self.stack and type(self.stack[-1][0]) is dict and self.stack[-1][1] is _MISSING:
            self._say(event, "yaml/key", "a map or a list cannot be a key", "write the key as text")
            raise _StopReading
        self._put(container, event, opens=True)
        self.stack.append([container, _MISSING, None])

    def _put(self, value: Any, event: Any, opens: bool = False) -> None:
        """Puts ``value`` where the innermost open container expects it: as root, item, key or its value."""
        if not self.stack:
            self.root = value
            if self.marks is not None:
                mark = _mark(event)
                self.marks[()] = (mark, mark)
            return
        frame = self.stack[-1]
        container = frame[0]
        if type(container) is list:
            container.append(value)
            if self.marks is not None:
                self.path.append(len(container) - 1)
                mark = _mark(event)
                self.marks[tuple(self.path)] = (mark, mark)
        elif frame[1] is _MISSING:
            self._key(frame, value, event)
            return
        else:
            container[frame[1]] = value
            if self.marks is not None:
                self.path.append(frame[1])
                self.marks[tuple(self.path)] = (frame[2], _mark(event))
        if not opens:
            self._close_value()

    def _key(self, frame: list[Any], key: Any, event: Any) -> None:
        if type(key) is not str:
            shown = getattr(event, "value", "") or "this key"
            self._say(event, "yaml/key", f"{shown} is not text, and keys are", f'quote it: "{shown}"')
            key = str(key)
        elif key == "<<" and not event.style:
            self._say(event, "yaml/alias", "<< merges another map into this one", "write its keys out")
        elif key in frame[0]:
            self._say(
                event,
                "yaml/duplicate-key",
                f'the key "{key}" stands twice in this map',
                "keep one of the two",
            )
        frame[1] = key
        if self.marks is not None:
            frame[2] = _mark(event)

    def _close_value(self) -> None:
        """The innermost container got a whole value: it now waits for its next key or item."""
        frame = self.stack[-1]
        if frame[1] is not _MISSING:
            frame[1] = _MISSING
        if self.marks is not None and self.path:
            self.path.pop()


class _StopReading(Exception):
    """Ends a pass early; the report is already made."""


def _mark(event: Any) -> Mark:
    return (event.start_mark.line + 1, event.start_mark.column + 1)
