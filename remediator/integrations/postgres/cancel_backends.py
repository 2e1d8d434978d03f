"""``postgres.cancel_backends``: cancel queries that run too long."""

from __future__ import annotations

from typing import ClassVar

from remediator.action import Effect
from remediator.integrations.postgres._backends import Backends


class CancelBackends(Backends):
    """Cancels the running queries of up to ``max`` clients by age, application and role, the longest first.

    The connections stay. Only client backends of this database: never replication, autovacuum, backups or Remediator
    itself.
    """

    effect: ClassVar[Effect] = Effect.CONDITIONAL
    function: ClassVar[str] = "pg_cancel_backend"
    verb: ClassVar[str] = "cancel"

    @property
    def wanted_state(self) -> str:
        """Only what runs can be cancelled."""
        return "active"
