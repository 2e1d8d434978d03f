"""Which files hold rules, and reading them as one consistent set while somebody may be replacing them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from remediator.document import read_bounded
from remediator.problem import Problem, ProblemsError, Severity

SUFFIXES = (".yaml", ".yml")

_TRIES = 5


def read_files(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[str, bytes]]:
    """Name and content of every rule file that ``paths`` (files, directories, globs) lead to, sorted, each once.

    A directory gives the ``*.yaml`` and ``*.yml`` files directly in it that are not hidden. Kubernetes
    replaces a mounted ConfigMap by turning one symbolic link: all files are read from behind the same state
    of their links, or again. Raises ProblemsError.
    """
    wanted = [os.fspath(path) for path in paths]
    for _ in range(_TRIES):
        before = _resolved(find_files(wanted))
        read = _read(before)
        if read is not None and _resolved(find_files(wanted)) == before:
            return read
    raise ProblemsError([_problem(", ".join(wanted), "file/unreadable", "the files change while they are read")])


def find_files(paths: Sequence[str]) -> list[str]:
    """The names of the rule files. Raises ProblemsError naming each path that leads to none."""
    found: dict[str, None] = {}
    problems: list[Problem] = []
    for path in paths:
        names = _expand(path, problems)
        found |= dict.fromkeys(names)
    if problems:
        raise ProblemsError(problems)
    return sorted(found)


def _expand(path: str, problems: list[Problem]) -> list[str]:
    place = Path(path)
    if place.is_dir():
        try:
            names = sorted(os.listdir(place))
        except OSError as error:
            problems.append(_problem(path, "file/unreadable", f"cannot be read: {error.strerror}"))
            return []
        return [str(place / name) for name in names if _is_rule_file(place / name)]
    if place.exists():
        if not path.endswith(SUFFIXES):
            problems.append(_problem(path, "file/name", "a rule file ends in .yaml or .yml", "rename it"))
        return [str(place)]
    if glob.has_magic(path):
        matched = sorted(glob.glob(path, recursive=True))
        names = [name for name in matched if _is_rule_file(Path(name))]
        if not names:
            problems.append(_problem(path, "file/missing", "no *.yaml or *.yml file matches"))
        return names
    problems.append(_problem(path, "file/missing", "there is no such file or directory"))
    return []


def _is_rule_file(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.endswith(SUFFIXES) and path.is_file()


def _resolved(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, os.path.realpath(name)) for name in names]


def _read(files: Iterable[tuple[str, str]]) -> list[tuple[str, bytes]] | None:
    """The contents, or None when a file went away in between."""
    out: list[tuple[str, bytes]] = []
    problems: list[Problem] = []
    for name, real in files:
        try:
            out.append((name, read_bounded(real)))
        except FileNotFoundError:
            return None
        except OSError as error:
            problems.append(_problem(name, "file/unreadable", f"cannot be read: {error.strerror}"))
    if problems:
        raise ProblemsError(problems)
    return out


def _problem(file: str, id: str, message: str, hint: str = "") -> Problem:
    return Problem(file=file, line=0, column=0, severity=Severity.ERROR, id=id, message=message, hint=hint)
