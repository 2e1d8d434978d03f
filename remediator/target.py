"""The contract of a target: a named system of the settings with its address, credentials and permissions."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.clock import Clock
from remediator.ledger import Ledger, Mismatch

Permit = Mapping[str, list[str]]


class Target(BaseModel, ABC):
    """A system that rules may name. Subclasses live in ``remediator/integrations/<kind>/target.py``.

    Nothing is permitted until it is listed in ``permit``. Secrets are read from files when they are used and are
    never part of a repr, a log line or the audit. ``name`` is filled in by the settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lists: ClassVar[tuple[str, ...]] = ()
    """The permit lists of this kind besides ``actions``, such as ``("namespaces", "deployments")``."""

    name: str = Field(default="", exclude=True, json_schema_extra={"readOnly": True})
    permit: dict[str, list[str]] = Field(
        default_factory=dict,
        description="What rules may do here: `actions` and the lists of this kind of target, with * as a wildcard.",
    )
    max_runs: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="How many runs may act on one subject of this target at the same time.",
    )

    def refusal(self, uses: str, needs: Mapping[str, str]) -> str | None:
        """Why ``uses`` with ``needs`` is not permitted here, as a sentence; None when it is permitted."""
        wanted = {"actions": uses, **needs}
        for kind, value in wanted.items():
            allowed = self.permit.get(kind, [])
            if not any(fnmatchcase(value, pattern) for pattern in allowed):
                listed = ", ".join(allowed) or "nothing"
                return f'target "{self.name}" does not permit {kind} "{value}" (it lists {listed})'
        return None

    async def settle_open(self, ledger: Ledger, clock: Clock) -> None:
        """Look at transfers of this target that are out, and close what is proven; only treasuries define it.

        Raises TemporaryError, PermanentError, StoreUnavailable.
        """
        return None

    async def mismatches(self, ledger: Ledger, clock: Clock) -> Sequence[Mismatch]:
        """What the outside and the ledger disagree about; only treasuries define it. Raises as ``settle_open`` does."""
        return ()

    async def close(self) -> None:
        """Release connections. Called once when the service stops or the settings are replaced."""
        return None
