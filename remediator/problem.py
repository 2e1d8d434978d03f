"""What is wrong at one place of a file that a person wrote, and the four ways to print it."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from remediator import __version__
from remediator.errors import InputError

_WINDOW = 160
"""Columns of a source line that a report shows."""


class Severity(StrEnum):
    """How bad it is: an error is refused, a warning and an info are told."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One finding. ``line`` and ``column`` count characters from 1; 0 means the file as a whole.

    ``id`` is stable (``family/word``) and has an entry in docs/reference/problems.md; ``hint`` says what to
    write instead; ``source`` is the text of the line.
    """

    file: str
    line: int
    column: int
    severity: Severity
    id: str
    message: str
    hint: str = ""
    source: str = ""

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """Where it stands among others: by file, then from top to bottom."""
        return (self.file, self.line, self.column, self.id, self.message)

    @property
    def where(self) -> str:
        """``file:line:column``, or only the file."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        """The report of a compiler: the place, the sentence, the line, a caret, and what to write instead."""
        lines = [f"{printable(self.where)}: {self.severity}: {printable(self.message)} [{self.id}]"]
        if self.line and self.source.strip():
            lines += _excerpt(self.source, self.line, self.column)
        if self.hint:
            lines.append(f"  {printable(self.hint)}")
        return "\n".join(lines)


class ProblemsError(InputError):
    """A file was refused. ``problems`` holds everything that is wrong with it, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems), key=lambda problem: problem.order))
        super().__init__(render_text(self.problems))


def printable(text: str) -> str:
    """``text`` with everything escaped that a terminal could take for a command."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def _excerpt(source: str, line: int, column: int) -> list[str]:
    """The source line with a caret under ``column``; a long line is cut to a window around it."""
    start = max(0, column - 1 - _WINDOW // 2) if len(source) > _WINDOW else 0
    before, after = source[start : column - 1], source[column - 1 : start + _WINDOW]
    shown = ("…" if start else "") + printable(before)
    # Tabs stay tabs and wide characters take two columns, so that the caret stands under its character.
    pad = "".join("\t" if c == "\t" else " " * _width(c) for c in shown)
    gutter = f"{line:>5} | "
    return [f"{gutter}{shown}{printable(after)}", f"{' ' * 6}| {pad}^"]


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def nearest(word: str, words: Iterable[str]) -> str:
    """``did you mean "…"?`` with the one word that is close to ``word``, or nothing.

    Only the nearest is offered: a list of everything would change with every new action.
    """
    known = list(words)
    folded = {name.lower(): name for name in known}
    if (same := folded.get(word.lower())) is not None and same != word:
        return f'did you mean "{same}"?'
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close and close[0] != word else ""


def render_text(problems: Sequence[Problem]) -> str:
    """One report after the other, as a compiler prints them."""
    return "\n".join(str(problem) for problem in problems)


def render_json(problems: Sequence[Problem]) -> str:
    """A JSON array with one object per problem."""
    return json.dumps([_as_json(problem) for problem in problems], indent=2, ensure_ascii=False)


def _as_json(problem: Problem) -> dict[str, str | int]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "severity": problem.severity.value,
        "id": problem.id,
        "message": problem.message,
        "hint": problem.hint,
    }


def render_github(problems: Sequence[Problem]) -> str:
    """Workflow commands of GitHub Actions, which show each problem beside its line."""
    commands = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
    lines = []
    for problem in problems:
        place = f"file={_github(problem.file, ':,')}"
        if problem.line:
            place += f",line={problem.line},col={problem.column}"
        text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
        lines.append(
            f"::{commands[problem.severity]} {place},title={_github(problem.id, ':,')}::{_github(text)}"
        )
    return "\n".join(lines)


def _github(text: str, also: str = "") -> str:
    """Escapes as the toolkit of GitHub Actions does for the data and the properties of a command."""
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def render_sarif(problems: Sequence[Problem]) -> str:
    """SARIF 2.1.0 (OASIS), which code-scanning services read."""
    levels = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    results = []
    for problem in problems:
        place: dict[str, object] = {"artifactLocation": {"uri": problem.file}}
        if problem.line:
            place["region"] = {"startLine": problem.line, "startColumn": problem.column}
        text = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
        results.append(
            {
                "ruleId": problem.id,
                "level": levels[problem.severity],
                "message": {"text": text},
                "locations": [{"physicalLocation": place}],
            }
        )
    driver = {
        "name": "remediator",
        "version": __version__,
        "rules": [{"id": id_} for id_ in sorted({problem.id for problem in problems})],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False)


RENDERERS = {"text": render_text, "json": render_json, "sarif": render_sarif, "github": render_github}
"""Every way to print problems, by the value of ``-o``."""
