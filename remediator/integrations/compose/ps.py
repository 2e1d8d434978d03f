"""``compose.ps``: the containers of the project, or of one service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.compose._container import of_service
from remediator.integrations.compose._names import EVERYTHING, Service
from remediator.integrations.compose.target import ComposeTarget
from remediator.probe import Probe, ProbeContext


class Ps(Probe[ComposeTarget]):
    """Reads the containers with their states, running or not. Environments are never kept."""

    service: Service | None = Field(default=None, description="Only this service; all of them if absent.")

    def needs(self) -> Mapping[str, str]:
        """The service, or everything, must be permitted."""
        return EVERYTHING if self.service is None else {"services": self.service}

    async def read(self, target: ComposeTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The containers as evidence. Raises TemporaryError, PermanentError."""
        found = await (await target.engine()).containers()
        if self.service is not None:
            found = of_service(found, self.service)
        return {
            "count": len(found),
            "running": sum(each.running for each in found),
            "containers": [
                {
                    "service": each.service,
                    "number": each.number,
                    "state": each.state,
                    "health": each.health,
                    "exit_code": each.exit_code,
                    "restarts": each.restarts,
                    "started_at": each.started_at,
                    "image": each.image,
                }
                for each in found
            ],
        }
