"""``compose.health``: whether every container of a service, or of the project, is up and healthy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.compose._container import Container, of_service
from remediator.integrations.compose._names import EVERYTHING, Service
from remediator.integrations.compose.target import ComposeTarget
from remediator.probe import Probe, ProbeContext


class Health(Probe[ComposeTarget]):
    """Counts containers by what their health checks say; one without a health check counts as well while it runs."""

    service: Service | None = Field(default=None, description="Only this service; all of them if absent.")

    def needs(self) -> Mapping[str, str]:
        """The service, or everything, must be permitted."""
        return EVERYTHING if self.service is None else {"services": self.service}

    async def read(self, target: ComposeTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The counts as evidence. Raises TemporaryError, PermanentError."""
        found = await (await target.engine()).containers()
        if self.service is not None:
            found = of_service(found, self.service)
        services = {each.service: [one for one in found if one.service == each.service] for each in found}
        return {
            **_counts(found),
            "services": {name: _counts(containers) for name, containers in sorted(services.items())},
        }


def _counts(found: list[Container]) -> dict[str, Any]:
    return {
        # Nothing at all is not healthy.
        "ok": bool(found) and all(each.well for each in found),
        "count": len(found),
        "running": sum(each.running for each in found),
        "healthy": sum(each.running and each.health == "healthy" for each in found),
        "starting": sum(each.running and each.health == "starting" for each in found),
        "unhealthy": sum(each.running and each.health == "unhealthy" for each in found),
    }
