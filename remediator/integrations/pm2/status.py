"""``pm2.status``: which instances of a process there are and how they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.pm2 import _daemon
from remediator.integrations.pm2._names import Name, permission
from remediator.integrations.pm2.target import Pm2Target
from remediator.probe import Probe, ProbeContext


class Status(Probe[Pm2Target]):
    """Reads what pm2 knows of a process. Environments, which `pm2 jlist` prints too, are never kept."""

    process: Name = Field(description="The process's name, or `all`.")

    def needs(self) -> Mapping[str, str]:
        """The process must be permitted."""
        return permission(self.process)

    async def read(self, target: Pm2Target, context: ProbeContext) -> Mapping[str, Any]:
        """The instances as evidence. Raises TemporaryError, PermanentError."""
        found = await _daemon.processes(target, self.process)
        return {
            "count": len(found),
            "online": sum(each.status == "online" for each in found),
            "errored": sum(each.status == "errored" for each in found),
            "stopped": sum(each.stopped for each in found),
            "restarts": sum(each.restarts for each in found),
            "memory": sum(each.memory for each in found),
            "instances": [
                {
                    "id": each.id,
                    "name": each.name,
                    "pid": each.pid,
                    "status": each.status,
                    "mode": each.mode,
                    "restarts": each.restarts,
                    "unstable_restarts": each.unstable_restarts,
                    "started_at": each.started_at,
                    "memory": each.memory,
                    "cpu": each.cpu,
                }
                for each in found
            ],
        }
