"""The catalogue: what exists is what lies in the folders, and nothing else is ever imported."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import remediator.guards
import remediator.integrations
from remediator.action import Action, Effect
from remediator.catalogue import Catalogue, CatalogueError, camel_case
from remediator.guard import Guard
from remediator.probe import Probe
from remediator.target import Target


def test_finds_each_part_by_its_name() -> None:
    """Actions, probes, guards and kinds of targets are found under the names of their files."""
    catalogue = Catalogue()
    action, probe = catalogue.action("http.post"), catalogue.probe("http.get")
    guard, target = catalogue.guard("rate_limit"), catalogue.target_kind("http")
    found = [kind.__mro__ for kind in (action, probe, guard, target) if kind is not None]
    assert [kind.__name__ for kind, *_ in found] == ["Post", "Get", "RateLimit", "HttpTarget"]
    assert all(base in mro for base, mro in zip((Action, Probe, Guard, Target), found, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "http.get",
        "http.nope",
        "http",
        "nope.get",
        "os.system",
        "http._path",
        "http.target",
        "",
        ".",
        "..os",
        "http.post.x",
    ],
)
def test_there_is_no_action_of_another_name(name: str) -> None:
    """Probes, helpers, other modules of Python and odd texts are no actions, and asking for them imports nothing."""
    before = set(sys.modules)
    assert Catalogue().action(name) is None
    new = set(sys.modules) - before
    assert (
        all(module.startswith(("remediator.", "aiohttp", "re2", "yarl", "multidict")) for module in new)
        or name == "http.get"
    )


def test_lists_everything_by_family() -> None:
    """The lists are sorted and complete: each action, probe, guard, check and kind of target that has a file."""
    catalogue = Catalogue()
    root = Path(remediator.__file__).parent
    files = {
        f"{path.parent.name}.{path.stem}"
        for path in root.glob("integrations/*/*.py")
        if path.stem != "target" and not path.stem.startswith("_")
    }
    families = [catalogue.names(family) for family in ("actions", "probes", "composites")]
    assert sorted(name for names in families for name in names) == sorted(files)
    assert list(catalogue.names("guards")) == [
        "approval", "backoff", "blast_radius", "breaker", "budget", "change_window", "conflict", "cooldown", "feedback",
        "flap", "inhibition", "max_attempts", "pause", "rate_limit", "sensor_trust", "storm",
    ]  # fmt: skip
    assert {"no_verify", "no_cooldown", "broad_match"} <= set(catalogue.names("checks"))
    assert set(catalogue.names("targets")) == {path.parent.name for path in root.glob("integrations/*/target.py")}


def test_describes_what_it_lists() -> None:
    """Each entry says what it is, what a crash means, and which parameters it takes, as JSON."""
    catalogue = Catalogue()
    for family in ("actions", "probes", "composites", "guards"):
        for entry in json.loads(json.dumps(catalogue.describe(family))):
            assert len(entry["description"]) > 20, entry["name"]
            assert entry["parameters"]["type"] == "object"
            for name, schema in entry["parameters"].get("properties", {}).items():
                assert schema.get("description"), f"{entry['name']}: {name} has no description"
            assert (entry.get("effect") in list(Effect)) is (family == "actions")
    for entry in catalogue.describe("actions"):
        assert entry["name"].startswith(f"{entry['integration']}.")


def test_imports_only_what_is_asked_for() -> None:
    """A rule that uses http.get loads no other integration, and listing all loads none of their heavy libraries."""
    code = (
        "import sys\n"
        "from remediator.catalogue import Catalogue\n"
        "c = Catalogue(); c.probe('http.get'); c.guard('cooldown')\n"
        "print(sorted(m for m in sys.modules if m.startswith('remediator.integrations.') and m.count('.') == 2))\n"
        "c.names('actions'); c.names('targets')\n"
        "print([m for m in ('kubernetes', 'solana', 'solders', 'asyncpg', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert "remediator.integrations.http" in first
    assert "kubernetes" not in first and "prometheus" not in first and "command" not in first
    assert second == "[]"


def test_names_of_files_make_names_of_classes() -> None:
    """The class that a file must hold follows from its name."""
    assert [camel_case(name) for name in ("scale", "rate_limit", "http_target")] == ["Scale", "RateLimit", "HttpTarget"]


BASE = """
from typing import Any, ClassVar
from remediator.action import Action, Effect
from remediator.target import Target
class DemoTarget(Target):
    pass
class {name}(Action[Any]):
    {effect}
    def needs(self): return {{}}
    async def diff(self, target, context): raise NotImplementedError
    {apply}
"""
APPLY = "async def apply(self, target, change, context): raise NotImplementedError"
EFFECT = "effect: ClassVar[Effect] = Effect.ONCE"


@pytest.mark.parametrize(
    ("name", "effect", "apply", "message"),
    [
        ("Lever", "pass", APPLY, "must declare effect"),
        ("Lever", "effect: ClassVar[str] = 'once'", APPLY, "must declare effect"),
        ("Leverage", EFFECT, APPLY, "must define one Action or Probe or Composite, named Lever; it defines Leverage"),
        ("Lever", EFFECT, "pass", "does not define apply"),
        ("Lever", EFFECT, APPLY + "\nclass Other(Lever): pass", "it defines Lever, Other"),
    ],
)
def test_refuses_a_file_that_is_not_what_it_says(
    name: str, effect: str, apply: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action without an effect class, under another name, half written or not alone in its file is not loaded."""
    package = tmp_path / "integrations" / "demo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lever.py").write_text(BASE.format(name=name, effect=effect, apply=apply))
    monkeypatch.setattr(remediator.integrations, "__path__", [str(tmp_path / "integrations")])
    importlib.invalidate_caches()
    try:
        with pytest.raises(CatalogueError, match=message):
            Catalogue().action("demo.lever")
    finally:
        for module in ("remediator.integrations.demo.lever", "remediator.integrations.demo"):
            sys.modules.pop(module, None)


def test_a_whole_new_integration_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding an action is adding a file: nothing else has to be edited for it to be found."""
    package = tmp_path / "integrations" / "demo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lever.py").write_text(BASE.format(name="Lever", effect=EFFECT, apply=APPLY))
    monkeypatch.setattr(remediator.integrations, "__path__", [str(tmp_path / "integrations")])
    importlib.invalidate_caches()
    try:
        assert list(Catalogue().names("actions")) == ["demo.lever"]
    finally:
        for module in ("remediator.integrations.demo.lever", "remediator.integrations.demo"):
            sys.modules.pop(module, None)
