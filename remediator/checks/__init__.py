"""Lint of rules that are right but unwise: one check per file, each with one opinion and the reason for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from remediator.problem import Severity
from remediator.rule import Rule, guard_name


class Finding(NamedTuple):
    """What a check has to say: where inside the rule (keys as they are written), what, and what to do about it."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckContext:
    """What a check may know besides the rule."""

    services: Collection[str] | None = None
    """Services of the settings; None where the settings are not known."""
    guards: list[Mapping[str, Any]] = field(default_factory=list)
    """Guards that the settings add to every rule."""

    def guards_of(self, rule: Rule) -> set[str]:
        """Names of the guards that stand before ``rule``, its own and those of the settings."""
        return {guard_name(entry) for entry in (*self.guards, *rule.guards)}


class Check(ABC):
    """One opinion on rules. A subclass lives in ``remediator/checks/<name>.py`` and is named by that file.

    Its problems carry the id ``check/<name>``.
    """

    severity: ClassVar[Severity] = Severity.WARNING

    @abstractmethod
    def findings(self, rule: Rule, context: CheckContext) -> Iterator[Finding]:
        """What is unwise about ``rule``."""
