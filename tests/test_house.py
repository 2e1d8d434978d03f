"""Holds the laws of the house: where the world may be touched, what every file says, what belongs together.

Each failure names the file and what to write. The layers themselves are checked by import-linter, in
`make check`.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "remediator"

# --- The second law: only the edges of the house touch the world -----------------------------------------

EDGES = {"integrations", "stores", "web", "cli", "demo"}
"""The folders whose files may import a library of the network, of databases or of processes."""

PURE = {
    "cel_expr_python", "google_re2", "prometheus_client", "pydantic", "pydantic_core", "re2", "structlog",
    "typing_extensions", "yaml",
}  # fmt: skip
"""Libraries that compute and touch nothing. Whatever is not listed counts as one that does."""

WORLDLY = {
    "asyncio.streams", "asyncio.subprocess", "concurrent.futures.process", "dbm", "ftplib", "http.client",
    "http.server", "imaplib", "multiprocessing", "poplib", "prometheus_client.aiohttp",
    "prometheus_client.exposition", "pty", "shelve", "smtplib", "socket", "socketserver", "sqlite3",
    "subprocess", "urllib.request", "webbrowser", "xmlrpc",
}  # fmt: skip
"""Modules of the standard library, and parts of pure libraries, that open connections or start processes."""

WORLDLY_CALLS = re.compile(
    r"(create_subprocess_(exec|shell)|subprocess_(exec|shell)|open_connection|open_unix_connection|start_server"
    r"|start_unix_server|create_connection|create_unix_connection|create_datagram_endpoint|start_http_server"
    r"|popen|posix_spawnp?|spawn[lv]p?e?|exec[lv]p?e?|fork|forkpty)"
)
"""Functions that do the same without an import of their own (`asyncio.open_connection`, `os.popen`)."""


def _imported(node: ast.AST) -> list[str]:
    """The dotted names that one statement or call imports; relative imports stay inside the house."""
    match node:
        case ast.Import(names=names):
            return [each.name for each in names]
        case ast.ImportFrom(module=str(module), level=0, names=names):
            return [module, *(f"{module}.{each.name}" for each in names)]
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(module)), *_],
        ):
            return [module]
    return []


def _is_worldly(module: str) -> bool:
    top = module.partition(".")[0]
    listed = any(module == each or module.startswith(each + ".") for each in WORLDLY)
    return listed or (top not in sys.stdlib_module_names and top not in PURE | {"remediator"})


def touches_world(source: str) -> list[tuple[int, str]]:
    """Line and name of everything in a Python text that opens a connection, a database or a process."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        for module in filter(_is_worldly, _imported(node)):
            found.add((getattr(node, "lineno", 0), module))
        if isinstance(node, ast.Attribute) and WORLDLY_CALLS.fullmatch(node.attr):
            found.add((node.lineno, node.attr))
        # os.system is the one that has an innocent namesake (platform.system).
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.system":
            found.add((node.lineno, "os.system"))
    return sorted(found)


@pytest.mark.parametrize(
    "source",
    [
        "import aiohttp",
        "import sqlite3 as s",
        "from kubernetes.aio import client",
        "from asyncio import subprocess",
        "def f():\n    import a_library_nobody_has_heard_of",
        "import importlib\nimportlib.import_module('solana.rpc')",
        "import asyncio\nasyncio.create_subprocess_shell('true')",
        "import os\nos.system('true')",
        "from prometheus_client import start_http_server\nfrom urllib import request",
    ],
)
def test_the_second_law_sees_every_way_out(source: str) -> None:
    """The law below would catch each usual way to reach the network, a database or a process."""
    assert touches_world(source)


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio, json, os.path",
        "from urllib.parse import urlsplit",
        "from http import HTTPStatus",
        "from pydantic import BaseModel",
        "from remediator.alert import Alert",
        "import platform\nplatform.system()",
    ],
)
def test_the_second_law_lets_thinking_pass(source: str) -> None:
    """The law below does not forbid what only computes."""
    assert touches_world(source) == []


def test_only_the_edges_touch_the_world() -> None:
    """Rules, guards, planning and the engine cannot reach the network, a database or a process alone."""
    breaches = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in _python(PACKAGE)
        if path.relative_to(PACKAGE).parts[0] not in EDGES
        for line, name in touches_world(path.read_text())
    ]
    assert not breaches, (
        f"only {', '.join(sorted(EDGES))} may use these; move the code there, or add a library that touches "
        "nothing to PURE in this file:\n" + "\n".join(breaches)
    )


# --- Every file says what it is ---------------------------------------------------------------------------


def _python(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _tests() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in _python(ROOT / "tests"):
        if path.name.startswith("test_"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield path, node


def test_every_module_opens_with_its_charter() -> None:
    """A reader learns from the first sentence of a file what belongs there."""
    missing = []
    for path in [*_python(PACKAGE), *_python(ROOT / "tests")]:
        tree = ast.parse(path.read_text())
        charter = (ast.get_docstring(tree) or "").partition("\n\n")[0].strip()
        if not charter.endswith((".", ":")) and (tree.body or path.is_relative_to(PACKAGE)):
            missing.append(str(path.relative_to(ROOT)))
    assert not missing, "the first sentence of these must say what belongs there:\n" + "\n".join(missing)


def test_every_test_says_what_it_proves() -> None:
    """An auditor can read the list of tests as a list of promises."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path, node in _tests()
        if len((ast.get_docstring(node) or "").split()) < 4
    ]
    assert not silent, "these tests need a docstring that says what they prove:\n" + "\n".join(silent)


def test_no_test_can_be_skipped() -> None:
    """A green run means that every promise was tried, on this machine, now."""
    skips = re.compile(r"(pytest|unittest)\.(mark\.)?(skip\w*|xfail|importorskip|SkipTest)\b|@[s]kip")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _python(ROOT / "tests")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if skips.search(line)
    ]
    assert not found, "fail with what is needed instead of skipping:\n" + "\n".join(found)


def test_nothing_is_left_for_later_or_silenced_without_reason() -> None:
    """There are no notes of unfinished work, and whoever silences a checker says why on the same line."""
    unfinished = re.compile(r"\b([T]ODO|[F]IXME|[X]XX)\b")
    silenced = re.compile(r"#\s*type:\s*ignore(?P<code>\[[\w, -]+\])?(?P<reason>\s+#\s*\w.{5,})?")
    found = []
    for path in [*_python(PACKAGE), *_python(ROOT / "tests")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = silenced.search(line)
            if unfinished.search(line) or (match and not (match["code"] and match["reason"])):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "finish these, or write `# type: ignore[code]  # why`:\n" + "\n".join(found)


# --- Name = path: what belongs together -------------------------------------------------------------------


def _parts() -> list[tuple[str, ...]]:
    """Every action, probe, guard and check by its path, such as ("integrations", "http", "get")."""
    files = [
        *PACKAGE.glob("integrations/*/*.py"),
        *PACKAGE.glob("guards/*.py"),
        *PACKAGE.glob("checks/*.py"),
    ]
    return sorted(
        path.relative_to(PACKAGE).with_suffix("").parts
        for path in files
        if path.stem != "target" and not path.stem.startswith("_")
    )


def test_every_part_has_its_test_and_its_page() -> None:
    """Whoever knows the name of an action, probe, guard or check knows where its test and its page are."""
    parts = _parts()
    assert parts, "no action, probe, guard or check was found under remediator/"
    missing = [
        f"{wanted}   (for remediator/{'/'.join([*folder, name])}.py)"
        for *folder, name in parts
        for wanted in (
            Path("tests", *folder, f"test_{name}.py"),
            Path("docs", "reference", *folder, f"{name}.md"),
        )
        if not (ROOT / wanted).is_file()
    ]
    assert not missing, "these files are missing:\n" + "\n".join(missing)


def test_every_page_has_its_part() -> None:
    """The reference describes nothing that was removed or renamed."""
    reference = ROOT / "docs" / "reference"
    known = set(_parts())
    stale = [
        f"docs/reference/{page.relative_to(reference)}"
        for family in ("integrations", "guards", "checks")
        for page in sorted((reference / family).rglob("*.md"))
        if page.stem not in {"README", "index", "target"}
        and page.relative_to(reference).with_suffix("").parts not in known
    ]
    assert not stale, "these pages describe nothing under remediator/:\n" + "\n".join(stale)


# --- What may not stand in any file -----------------------------------------------------------------------

FORBIDDEN = {
    "a folder of one machine": re.compile(
        r"(?<![\w.$}~-])/(?:(?:home|Users|work|tmp/w)/|root\b)|file:///[o]pt\b|\.\./shared\b"
    ),
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|ghcr\.io|quay\.io|deb\.debian\.org"
        r"|(?:registry-1|registry\.hub|index)\.docker\.(?:io|com)|proxy\.golang\.org|crates\.io|[a]rtifactory"
    ),
}
GENERATED = {".git", ".venv", "build", "dist", "node_modules", "__pycache__"}


def _files() -> Iterator[tuple[Path, str]]:
    """Every text of the project, and nothing that tools put beside it."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        hidden = any(part in GENERATED or part.endswith(("_cache", ".egg-info")) for part in inside.parts)
        if hidden or inside.parts[0] == ".hypothesis" or not path.is_file():
            continue
        try:
            yield inside, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and databases hold no addresses that a person would follow


def test_no_file_names_a_machine_or_a_registry() -> None:
    """The project builds the same anywhere: it knows no developer's folders and no package index."""
    found = [
        f"{path}:{number}: {match.group()} is {what}"
        for path, text in _files()
        for what, pattern in FORBIDDEN.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def test_locks_hold_versions_and_hashes_and_no_address() -> None:
    """What is installed is exactly what was pinned, whichever index serves it."""
    locks = sorted((ROOT / "requirements").glob("*.lock"))
    assert {lock.stem for lock in locks} == {"run", "build", "dev"}
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, f"{lock.name} names an address"
        for entry in re.split(r"\n(?=[a-z])", text)[1:]:
            assert re.match(r"[a-z0-9-]+==\S+", entry), f"{lock.name}: not pinned: {entry.splitlines()[0]}"
            assert "--hash=sha256:" in entry, f"{lock.name}: no hash: {entry.splitlines()[0]}"


def test_every_dependency_is_locked_and_says_why() -> None:
    """Whoever reviews the supply chain reads beside each dependency why it is there."""
    text = (ROOT / "pyproject.toml").read_text()
    settings = tomllib.loads(text)
    groups = settings["dependency-groups"]
    wanted = {
        "run": settings["project"]["dependencies"],
        **{name: [each for each in group if isinstance(each, str)] for name, group in groups.items()},
    }
    # Extras are no part of an installation, but they are tested, and so the development lock holds them.
    wanted["dev"] = wanted["dev"] + [
        each for extra in settings["project"]["optional-dependencies"].values() for each in extra
    ]
    problems = []
    for group, requirements in wanted.items():
        lock = (ROOT / "requirements" / f"{group}.lock").read_text()
        for requirement in requirements:
            name = re.match(r"[\w-]+", requirement)
            assert name, requirement
            if not re.search(rf'"{re.escape(requirement)}",?\]?\s+# \S.{{9,}}$', text, re.MULTILINE):
                problems.append(f"{requirement}: write its reason on the same line of pyproject.toml")
            if not re.search(rf"^{name.group()}==", lock, re.MULTILINE | re.IGNORECASE):
                problems.append(f"{requirement}: not in requirements/{group}.lock; run `make lock`")
    assert not problems, "\n".join(problems)
