"""The contract of a probe: reads one thing of one target and returns JSON evidence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from remediator.clock import Clock
from remediator.ledger import Ledger
from remediator.target import Target

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a probe saw. ``value`` is JSON when ``ok``; otherwise ``error`` says why it is unknown.

    Unknown evidence never satisfies a condition: reading it in CEL is an error, and an error is a no.
    """

    probe: str
    uses: str
    target: str
    at: float
    ok: bool
    value: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The evidence as JSON data."""
        return {
            "probe": self.probe,
            "uses": self.uses,
            "target": self.target,
            "at": self.at,
            "ok": self.ok,
            "value": dict(self.value),
            "error": self.error,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeContext:
    """What a probe may know besides its parameters and its target."""

    run_id: str
    clock: Clock
    ledger: Ledger | None = None
    """Where money is kept; for probes that compare it with something, and only to read."""


class Probe(BaseModel, ABC, Generic[T]):
    """One look. The fields of a subclass are its YAML parameters (``with:``).

    A subclass lives in ``remediator/integrations/<system>/<name>.py`` and is named by that path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    literal: ClassVar[frozenset[str]] = frozenset()
    """Parameters that may hold no placeholder, because their text is code of some kind (PromQL, SQL)."""

    @abstractmethod
    def needs(self) -> Mapping[str, str]:
        """What the target must permit beyond the probe's name: permit list → the one value it must allow."""

    @abstractmethod
    async def read(self, target: T, context: ProbeContext) -> Mapping[str, Any]:
        """Look once and return JSON. Writes nothing, ever. Raises TemporaryError, PermanentError."""
