"""The settings of a target of kind ``pm2``: whose daemon it is, and where."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.clock import Duration
from remediator.integrations._ssh import SSH
from remediator.target import Target


class Pm2Target(Target):
    """One pm2 daemon, on this machine or on another one. It belongs to a user, and Remediator acts as that one.

    Acting on everything that the daemon runs needs the entry `*` in `permit.processes`.
    """

    lists: ClassVar[tuple[str, ...]] = ("processes",)

    home: str = Field(pattern=r"^/[^\x00]*$", description="The daemon's folder (PM2_HOME), an absolute path.")
    program: str = Field(
        default="pm2",
        pattern=r"^(/[^\x00]+|[A-Za-z0-9][A-Za-z0-9._-]*)$",
        description="pm2's own program: an absolute path, or a name in `path`.",
    )
    path: str = Field(
        default="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        pattern=r"^/[^\x00]*$",
        description="PATH for it; pm2 is a script of Node.js, so `node` must be there.",
    )
    ssh: SSH | None = Field(
        default=None, description="The machine it is on: `host`, `port`, `user`, `key_file`, `known_hosts_file`."
    )
    timeout: Duration = Field(default=30.0, gt=0, le=600, description="How long one call of pm2 may take.")
