"""The contract of a composite: a step that stands for a probe and an ordinary step, and is written out when rules load.

Whatever comes after that (permits, locks, guards, approvals, the audit) sees an ordinary probe and an ordinary step, so
that nothing ever acts under another name than its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

Place = tuple[str | int, ...]
"""Keys and indexes from a step, or from what it is written out as, to a value."""


class Written(NamedTuple):
    """What a composite stands for, as it would stand in a rule. The loader adds the step's ``id`` to both.

    ``probe_from`` and ``step_from`` lead from a value in them to where it came from in the step that was written.
    """

    probe: dict[str, Any]
    step: dict[str, Any]
    probe_from: Mapping[Place, Place]
    step_from: Mapping[Place, Place]


class Composite(BaseModel, ABC):
    """The parameters (``with``) of a composite; a subclass is one kind of it, called after its file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    @abstractmethod
    def write_out(self, step: Mapping[str, Any]) -> Written:
        """What ``step``, whose ``with`` was checked and is this, stands for.

        Raises InputError for what is missing beside ``with``.
        """
