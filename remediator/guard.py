"""The contract of a guard: may this run act now? allow, hold until, or deny, and always why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Scope = Literal["rule", "incident", "target", "global"]
"""What a limit counts: runs of this rule, of this very problem (the incident's key), on this target, or all."""


class Decision(StrEnum):
    """The three answers of a guard."""

    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's answer. ``reason`` is a stable word (metric label, log field, audit field), ``message`` a sentence.

    ``until`` is when a hold is worth looking at again (Unix seconds); None means "when something happens".
    """

    decision: Decision
    reason: str = ""
    message: str = ""
    until: float | None = None

    @classmethod
    def allow(cls, message: str = "") -> Verdict:
        """The run may go on as far as this guard is concerned."""
        return cls(Decision.ALLOW, "", message)

    @classmethod
    def hold(cls, reason: str, message: str, until: float | None = None) -> Verdict:
        """Not now; ask again at ``until``."""
        return cls(Decision.HOLD, reason, message, until)

    @classmethod
    def deny(cls, reason: str, message: str) -> Verdict:
        """No, and asking again will not help: the run ends as denied."""
        return cls(Decision.DENY, reason, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A bound that the store counts from the ledger of licences, inside the licence transaction.

    At most ``runs`` other runs of ``scope`` may have been licensed within ``window`` seconds; with ``since="end"``
    those count whose last effect ended within the window or has not ended (a cooldown).
    """

    guard: str
    scope: Scope
    runs: int
    window: float
    since: Literal["start", "end"] = "start"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardContext:
    """What a guard may know. Narrow on purpose: guards do not see stores, clients or plans."""

    run_id: str
    rule: str
    mode: str
    now: float
    labels: Mapping[str, str]
    severity: str
    targets: Sequence[str]
    created_at: float
    evidence: Mapping[str, Any]
    approved: bool
    """True when a person has granted exactly the change that is about to be made."""
    pauses: Mapping[str, str]
    """Pauses in force: scope (``global``, ``rule:NAME``, ``target:NAME``) → reason."""


class Guard(BaseModel, ABC):
    """One question asked before an effect. The fields of a subclass are its YAML parameters.

    A subclass lives in ``remediator/guards/<name>.py`` and is named by that file. A guard whose YAML may be a plain
    value (``cooldown: 10m``) names the field that takes it in ``shorthand``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    shorthand: ClassVar[str | None] = None

    @abstractmethod
    async def check(self, context: GuardContext) -> Verdict:
        """Allow, hold or deny. Raising denies: a guard that cannot be evaluated is a no."""

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """Bounds to be counted in the licence transaction."""
        return ()
