"""The settings of a target of kind ``systemd``: which units there are, and on which machine."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints, model_validator

from remediator.clock import Duration
from remediator.integrations._ssh import SSH
from remediator.target import Target

UNIT = r"^[A-Za-z0-9][A-Za-z0-9:_.@-]{0,200}\.(service|socket|timer)$"


class SystemdTarget(Target):
    """The service manager of this machine or of another one. `permit.units` lists every unit by its full name."""

    lists: ClassVar[tuple[str, ...]] = ("units",)

    command: list[Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]+$")]] = Field(
        default=["systemctl"],
        min_length=1,
        max_length=10,
        description="How systemctl is called: `[systemctl]`, `[systemctl, --user]`, `[sudo, -n, /usr/bin/systemctl]`.",
    )
    ssh: SSH | None = Field(
        default=None, description="The machine it is on: `host`, `port`, `user`, `key_file`, `known_hosts_file`."
    )
    timeout: Duration = Field(
        default=90.0, gt=0, le=3600, description="How long one call may take; a restart waits for the unit."
    )

    @model_validator(mode="after")
    def _units_by_name(self) -> SystemdTarget:
        for unit in self.permit.get("units", []):
            if re.match(UNIT, unit) is None or "\n" in unit:
                raise ValueError(f'permit.units: "{unit}" is no unit; write a full name such as redis.service')
        return self
