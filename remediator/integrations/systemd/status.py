"""``systemd.status``: what systemd says of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.integrations.systemd import _manager
from remediator.integrations.systemd._manager import Unit
from remediator.integrations.systemd.target import SystemdTarget
from remediator.probe import Probe, ProbeContext


class Status(Probe[SystemdTarget]):
    """Reads the state of a unit with `systemctl show`."""

    unit: Unit = Field(description="The unit's full name, such as `redis.service`.")

    def needs(self) -> Mapping[str, str]:
        """The unit must be listed."""
        return {"units": self.unit}

    async def read(self, target: SystemdTarget, context: ProbeContext) -> Mapping[str, Any]:
        """The unit as evidence. Raises TemporaryError, PermanentError."""
        state = await _manager.show(target, self.unit)
        return {
            "active": state.active,
            "sub": state.sub,
            "enabled": state.enabled,
            "result": state.result,
            "pid": state.pid,
            "restarts": state.restarts,
            "invocation": state.invocation,
        }
