"""``postgres.terminate_backends``: end connections that hold others up."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.action import Effect
from remediator.integrations.postgres._backends import Backends, State


class TerminateBackends(Backends):
    """Ends the connections of up to ``max`` clients by state, age, application and role, the oldest first.

    Only client backends of this database: never replication, autovacuum, backups or Remediator itself. Cancel first
    (``postgres.cancel_backends``); what is idle in a transaction can only be ended.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    literal: ClassVar[frozenset[str]] = frozenset({"older_than", "max", "state"})
    function: ClassVar[str] = "pg_terminate_backend"
    verb: ClassVar[str] = "terminate"

    state: State = Field(description="The state they must be in, such as `active` or `idle in transaction`.")

    @property
    def wanted_state(self) -> str:
        """The one that the rule says."""
        return self.state
