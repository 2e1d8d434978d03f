"""``pm2.logs``: the last lines that a process wrote, and how many of them match a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from remediator.integrations._lines import Lines, check_pattern
from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._names import ALL, Name, permission
from remediator.integrations.pm2.target import Pm2Target
from remediator.probe import Probe, ProbeContext

_MOST_FILES = 20


class Logs(Probe[Pm2Target]):
    """Reads the ends of the log files of a process. They have no times unless pm2 was told to write them."""

    literal: ClassVar[frozenset[str]] = frozenset({"pattern"})

    process: Name = Field(description="The process's name.")
    lines: int = Field(default=100, ge=1, le=1000, description="How many lines of each file are looked at.")
    pattern: str | None = Field(
        default=None, max_length=1000, description="RE2 pattern; lines that hold a match are counted and returned."
    )

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        return check_pattern(pattern)

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    async def read(self, target: Pm2Target, context: ProbeContext) -> Mapping[str, Any]:
        """The lines as evidence. Raises TemporaryError, PermanentError."""
        found = await _daemon.processes(target, self.process)
        seen = Lines(self.pattern, self.lines)
        files = sorted({path for each in found for path in (each.out_log, each.error_log) if path.startswith("/")})
        for path in files[:_MOST_FILES]:
            # Half as much again as usual lines need; a file of long lines shows fewer of them.
            seen.add(await _daemon.read_end(target, path, self.lines * 300))
        return {"process": self.process if self.process != ALL else "all", "files": len(files), **seen.evidence()}
