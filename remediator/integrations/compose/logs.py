"""``compose.logs``: the last lines that a service wrote, and how many of them match a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from remediator.clock import Duration
from remediator.integrations._lines import Lines, check_pattern
from remediator.integrations.compose._container import of_service
from remediator.integrations.compose._names import Service
from remediator.integrations.compose.target import ComposeTarget
from remediator.probe import Probe, ProbeContext

_BYTES_OF_A_LINE = 1024


class Logs(Probe[ComposeTarget]):
    """Reads the last lines of every container of a service, and counts those that match."""

    literal: ClassVar[frozenset[str]] = frozenset({"pattern"})

    service: Service = Field(description="The service.")
    lines: int = Field(default=100, ge=1, le=1000, description="How many lines of each container are looked at.")
    since: Duration = Field(default=300.0, gt=0, le=86400, description="Only lines that are no older than this.")
    pattern: str | None = Field(
        default=None, max_length=1000, description="RE2 pattern; lines that hold a match are counted and returned."
    )

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        return check_pattern(pattern)

    def needs(self) -> Mapping[str, str]:
        """The service must be permitted."""
        return {"services": self.service}

    async def read(self, target: ComposeTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The lines as evidence. Raises TemporaryError, PermanentError."""
        engine = await target.engine()
        seen = Lines(self.pattern, self.lines)
        found = of_service(await engine.containers(), self.service)
        for each in found:
            start = max(0.0, context.clock.now() - self.since)
            seen.add(await engine.logs(each, self.lines, start, self.lines * _BYTES_OF_A_LINE))
        return {"service": self.service, "containers": len(found), **seen.evidence()}
