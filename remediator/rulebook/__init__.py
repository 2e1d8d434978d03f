"""Loads rules, reports every problem at once with file:line:col, and answers which rules match an alert."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from remediator.document import Document, Path, load_document
from remediator.problem import Problem, ProblemsError, Severity, nearest
from remediator.rule import Registry, Rule
from remediator.rulebook.files import read_files
from remediator.rulebook.index import Index, Match
from remediator.rulebook.scrutiny import LATER, Scrutiny
from remediator.rulebook.writing_out import write_out
from remediator.target import Target
from remediator.validation import found, model_problems, without_secrets

__all__ = ["Match", "Rulebook", "RulebookError", "load_rulebook", "rulebook_from_texts"]


class RulebookError(ProblemsError):
    """The rules were refused as a whole; ``problems`` holds everything that is wrong, in every file."""


class Rulebook:
    """A set of rules that was loaded together. Immutable: a reload makes another one."""

    def __init__(
        self, rules: Iterable[tuple[Rule, Document, Path]], warnings: Iterable[Problem] = (), digest: str = ""
    ) -> None:
        self._places: dict[str, tuple[Document, Path]] = {}
        ordered: list[Rule] = []
        for rule, document, path in rules:
            ordered.append(rule)
            self._places[rule.name] = (document, path)
        self.rules: tuple[Rule, ...] = tuple(ordered)
        self._by_name = {rule.name: rule for rule in ordered}
        self._index = Index(ordered)
        self.warnings: tuple[Problem, ...] = tuple(warnings)
        """What is not wrong but worth saying, such as a file without rules."""
        self.digest = digest
        """SHA-256 over the files' contents, hex: whether anything changed at all."""

    def __len__(self) -> int:
        """The number of rules."""
        return len(self.rules)

    def get(self, name: str) -> Rule | None:
        """The rule of that name, or None."""
        return self._by_name.get(name)

    def match(self, labels: Mapping[str, str]) -> tuple[Rule, ...]:
        """The rules that answer an alert with ``labels``, in the order of the files."""
        return self._index.match(labels)

    def explain(self, labels: Mapping[str, str]) -> tuple[Match, ...]:
        """For every rule why it answers an alert with ``labels`` or does not, matcher by matcher."""
        return self._index.explain(labels)

    def file_of(self, name: str) -> str:
        """The file that holds the rule; ``""`` where there is no such rule."""
        place = self._places.get(name)
        return place[0].file if place else ""

    def problem(
        self, name: str, path: Path, id: str, message: str, *, hint: str = "", severity: Severity = Severity.WARNING
    ) -> Problem:
        """A problem at ``path`` inside the rule ``name``; for checks that look at loaded rules."""
        document, place = self._places[name]
        # A check speaks about what a rule says or leaves out; what is left out is said at the rule itself.
        return document.problem(place + path, id, message, hint=hint, severity=severity)


def load_rulebook(
    paths: Iterable[str | os.PathLike[str]],
    registry: Registry,
    targets: Mapping[str, Target] | None = None,
    policies: Collection[str] | None = None,
) -> Rulebook:
    """The rules in ``paths``: files, directories (their ``*.yaml`` and ``*.yml`` files) and globs.

    ``targets`` and the names of escalation ``policies`` are those of the settings; None leaves out what only the
    settings can tell. Raises RulebookError with all problems of all files.
    """
    try:
        files = read_files(paths)
    except ProblemsError as error:
        raise RulebookError(error.problems) from None
    return rulebook_from_texts(files, registry, targets, policies)


def rulebook_from_texts(
    files: Iterable[tuple[str, bytes]],
    registry: Registry,
    targets: Mapping[str, Target] | None = None,
    policies: Collection[str] | None = None,
) -> Rulebook:
    """Like ``load_rulebook``, from names and contents of files. Raises RulebookError."""
    with _without_collector():
        loader = _Loader(Scrutiny(registry, targets, policies), registry)
        hashes = []
        for file, raw in files:
            loader.add(file, raw)
            hashes.append(hashlib.sha256(raw).digest())
        errors = [p for p in loader.problems if p.severity is Severity.ERROR]
        if errors:
            raise RulebookError(without_secrets(loader.problems))
        warnings = [p for p in loader.problems if p.severity is not Severity.ERROR]
        digest = hashlib.sha256(b"".join(sorted(hashes))).hexdigest()
        return Rulebook(loader.rules, warnings, digest)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Loading makes a million objects and no cycles: collecting in between only takes time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loader:
    """Reads file after file and keeps what it finds."""

    def __init__(self, scrutiny: Scrutiny, registry: Registry) -> None:
        self.rules: list[tuple[Rule, Document, Path]] = []
        self.problems: list[Problem] = []
        self._scrutiny = scrutiny
        self._registry = registry
        self._first: dict[str, tuple[Document, Path]] = {}

    def add(self, file: str, raw: bytes) -> None:
        """Reads one file."""
        try:
            document = load_document(file, raw)
        except ProblemsError as error:
            self.problems += error.problems
            return
        # Rules keep their own data. What stays of a document is its text, which is all that places need.
        kept = Document(file, document.text, None)
        for path, entry in self._rules_in(document):
            out = write_out(document, path, entry, self._registry)
            self.problems += out.problems
            rule = self._rule(out.document, kept, path, out.entry, out.unwritten)
            if rule is not None and not out.problems:
                self.rules.append((rule, kept if out.document is document else out.document, path))

    def _rules_in(self, document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
        data = document.data
        if data is None or data == {"rules": None} or data == {"rules": []}:
            message = "there are no rules in this file"
            self.problems.append(document.problem((), "file/empty", message, severity=Severity.WARNING))
            return
        if not isinstance(data, dict):
            hint = "write rules: and below it a list of rules"
            self._say(document, (), "value/type", f"expected a map with the key rules, found {found(data)}", hint=hint)
            return
        for key in data:
            if key != "rules":
                hint = nearest(key, ["rules"]) or "a rule file has one key, rules"
                self.problems.append(
                    document.problem((key,), "value/unknown-key", f'unknown key "{key}"', hint=hint, key=True)
                )
        rules = data.get("rules", [])
        if "rules" not in data:
            self._say(document, (), "value/missing", '"rules" is missing', hint="the list of rules of this file")
        elif not isinstance(rules, list):
            self._say(document, ("rules",), "value/type", f"expected a list, found {found(rules)}",
                      hint="write each rule as an item: - name: …")  # fmt: skip
            return
        for index, entry in enumerate(rules):
            if isinstance(entry, dict):
                yield ("rules", index), entry
            else:
                self._say(document, ("rules", index), "value/type", f"expected a map, found {found(entry)}",
                          hint="a rule is a map with name, when and steps")  # fmt: skip

    def _say(self, document: Document, path: Path, id: str, message: str, hint: str = "") -> None:
        self.problems.append(document.problem(path, id, message, hint=hint))

    def _rule(
        self, document: Document, kept: Document, path: Path, entry: dict[str, Any], unwritten: Iterable[str]
    ) -> Rule | None:
        """The rule that ``entry`` writes, or None where it has a problem."""
        before = len(self.problems)
        rule: Rule | None = None
        try:
            rule = Rule.model_validate(entry, by_alias=True, by_name=False)
        except ValidationError as error:
            self.problems += model_problems(document, path, Rule, error, later=LATER)
        self.problems += self._scrutiny.problems(document, path, entry, unwritten)
        name = entry.get("name")
        if isinstance(name, str):
            if name in self._first:
                other, place = self._first[name]
                line, column = other.place((*place, "name"))
                hint = f"the first is at {other.file}:{line}:{column}; names are unique over all files"
                self._say(document, (*path, "name"), "rule/duplicate", f'a second rule is named "{name}"', hint=hint)
            else:
                self._first[name] = (kept, path)
        return rule if len(self.problems) == before else None
