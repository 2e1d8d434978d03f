"""What integrations, guards and checks exist: found by their path, imported when they are asked for.

The name is the place: ``http.get`` is ``remediator/integrations/http/get.py``, ``cooldown`` is
``remediator/guards/cooldown.py``. Adding one is adding a file. Nothing outside these folders is ever
imported, whatever a rule asks for.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import BaseModel

import remediator.checks
import remediator.guards
import remediator.integrations
from remediator.action import Action, Effect
from remediator.checks import Check, CheckContext
from remediator.composite import Composite
from remediator.errors import RemediatorError
from remediator.guard import Guard
from remediator.probe import Probe
from remediator.problem import Problem
from remediator.rulebook import Rulebook
from remediator.target import Target


class CatalogueError(RemediatorError):
    """A file in one of the folders is not what its place says it is: a mistake in this package, not in a rule."""


def camel_case(name: str) -> str:
    """The class name that a file must hold: ``rate_limit`` → ``RateLimit``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _files(package: ModuleType) -> list[str]:
    """Names of the modules in ``package`` that are entries: no helpers (``_x``) and no ``target``."""
    found = pkgutil.iter_modules(package.__path__)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_") and m.name != "target")


def _folders(package: ModuleType) -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg)


def _only_class(module: ModuleType, kinds: tuple[type[Any], ...], name: str) -> type[Any]:
    """The one class of ``kinds`` that ``module`` defines; its name must be that of the file."""
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, kinds)
        and value.__module__ == module.__name__
        # Action[SomeTarget] is a class too, made where it is written.
        and not getattr(value, "__pydantic_generic_metadata__", {}).get("origin")
    ]
    wanted = camel_case(name)
    if [value.__name__ for value in found] != [wanted]:
        shown = ", ".join(value.__name__ for value in found) or "none"
        kind = " or ".join(kind.__name__ for kind in kinds)
        raise CatalogueError(f"{module.__name__} must define one {kind}, named {wanted}; it defines {shown}")
    if inspect.isabstract(found[0]):
        missing = ", ".join(sorted(getattr(found[0], "__abstractmethods__", ())))
        raise CatalogueError(f"{module.__name__}.{wanted} does not define {missing}")
    return found[0]


class Catalogue:
    """The real ``rule.Registry``. Cheap to make; what was found once is kept."""

    def __init__(self) -> None:
        self._kinds = _folders(remediator.integrations)
        self._levers: dict[str, type[Action[Any]] | type[Probe[Any]] | type[Composite]] = {}
        self._guards: dict[str, type[Guard]] = {}
        self._targets: dict[str, type[Target]] = {}
        self._files: dict[str, list[str]] = {}

    def action(self, name: str) -> type[Action[Any]] | None:
        """The action of that name, or None. Imports its module only. Raises CatalogueError."""
        found = self._lever(name)
        return found if found is not None and issubclass(found, Action) else None

    def probe(self, name: str) -> type[Probe[Any]] | None:
        """The probe of that name, or None. Imports its module only. Raises CatalogueError."""
        found = self._lever(name)
        return found if found is not None and issubclass(found, Probe) else None

    def composite(self, name: str) -> type[Composite] | None:
        """The composite of that name, or None. Imports its module only. Raises CatalogueError."""
        found = self._lever(name)
        return found if found is not None and issubclass(found, Composite) else None

    def guard(self, name: str) -> type[Guard] | None:
        """The guard of that name, or None. Raises CatalogueError."""
        if name not in self._guards:
            if name not in self.names("guards"):
                return None
            module = import_module(f"{remediator.guards.__name__}.{name}")
            self._guards[name] = _only_class(module, (Guard,), name)
        return self._guards[name]

    def check(self, name: str) -> type[Check] | None:
        """The check of that name, or None. Raises CatalogueError."""
        if name not in self.names("checks"):
            return None
        module = import_module(f"{remediator.checks.__name__}.{name}")
        found: type[Check] = _only_class(module, (Check,), name)
        return found

    def lint(self, rulebook: Rulebook, context: CheckContext) -> list[Problem]:
        """What the checks have to say about the rules, in the order of the files."""
        checks = [(name, kind()) for name in self.names("checks") if (kind := self.check(name)) is not None]
        found = [
            rulebook.problem(
                rule.name,
                finding.path,
                f"check/{name}",
                finding.message,
                hint=finding.hint,
                severity=check.severity,
            )
            for rule in rulebook.rules
            for name, check in checks
            for finding in check.findings(rule, context)
        ]
        return sorted(found, key=lambda problem: problem.order)

    def target_kind(self, kind: str) -> type[Target] | None:
        """The kind of target, which is the name of its integration, or None. Raises CatalogueError."""
        if kind not in self._targets:
            if kind not in self._kinds:
                return None
            module = import_module(f"{remediator.integrations.__name__}.{kind}.target")
            self._targets[kind] = _only_class(module, (Target,), f"{kind}_target")
        return self._targets[kind]

    def names(self, family: str) -> Sequence[str]:
        """All names of ``actions``, ``probes``, ``composites``, ``guards``, ``checks`` or ``targets``, sorted.

        Telling actions from probes and composites imports every integration, but none of the libraries they use inside.
        """
        if family == "targets":
            return self._kinds
        if family in ("guards", "checks"):
            package = remediator.guards if family == "guards" else remediator.checks
            return self._list(package)
        of = {"actions": self.action, "probes": self.probe, "composites": self.composite}[family]
        return [name for name in self._lever_names() if of(name) is not None]

    def describe(self, family: str) -> list[dict[str, Any]]:
        """``actions``, ``probes``, ``composites`` or ``guards`` as data; parameters are JSON Schema."""
        of = {"actions": self.action, "probes": self.probe, "composites": self.composite, "guards": self.guard}[family]
        out: list[dict[str, Any]] = []
        for name in self.names(family):
            kind = of(name)
            if kind is None:
                raise CatalogueError(f"{name} vanished while it was listed")
            entry: dict[str, Any] = {"name": name}
            if issubclass(kind, Action):
                entry["effect"] = kind.effect.value
            elif issubclass(kind, Composite):
                # It has no effect of its own: it is written out as a probe and the step of another action.
                entry["effect"] = "composite"
            if "." in name:
                entry["integration"] = name.split(".")[0]
            else:
                entry["shorthand"] = kind.shorthand if issubclass(kind, Guard) else None
            out.append(entry | {"description": summary(kind), "parameters": parameters(kind)})
        return out

    def _list(self, package: ModuleType) -> list[str]:
        if package.__name__ not in self._files:
            self._files[package.__name__] = _files(package)
        return self._files[package.__name__]

    def _lever_names(self) -> list[str]:
        out = []
        for kind in self._kinds:
            package = import_module(f"{remediator.integrations.__name__}.{kind}")
            out += [f"{kind}.{name}" for name in self._list(package)]
        return out

    def _lever(self, name: str) -> type[Action[Any]] | type[Probe[Any]] | type[Composite] | None:
        if name not in self._levers:
            kind, _, file = name.partition(".")
            if kind not in self._kinds:
                return None
            package = import_module(f"{remediator.integrations.__name__}.{kind}")
            if file not in self._list(package):
                return None
            module = import_module(f"{package.__name__}.{file}")
            found = _only_class(module, (Action, Probe, Composite), file)
            if issubclass(found, Action) and not isinstance(getattr(found, "effect", None), Effect):
                raise CatalogueError(f"action {name} must declare effect: ClassVar[Effect]")
            self._levers[name] = found
        return self._levers[name]


def summary(kind: type[Any]) -> str:
    """The first paragraph of the docstring of ``kind``, in one line."""
    text = inspect.getdoc(kind) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def parameters(kind: type[BaseModel]) -> dict[str, Any]:
    """The parameters of ``kind`` as JSON Schema (draft 2020-12), without its title and docstring."""
    schema = kind.model_json_schema(by_alias=True)
    return {key: value for key, value in schema.items() if key not in ("title", "description")}
