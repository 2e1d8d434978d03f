"""The contract of a guard: may this run act now? allow, hold until, or deny, and always why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from remediator.facts import NO_FACTS, Facts

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
    ``about`` names what many runs are held by at once, such as one storm: people are told once of each.
    """

    decision: Decision
    reason: str = ""
    message: str = ""
    until: float | None = None
    about: str = ""

    @classmethod
    def allow(cls, message: str = "") -> Verdict:
        """The run may go on as far as this guard is concerned."""
        return cls(Decision.ALLOW, "", message)

    @classmethod
    def hold(cls, reason: str, message: str, until: float | None = None, about: str = "") -> Verdict:
        """Not now; ask again at ``until``."""
        return cls(Decision.HOLD, reason, message, until, about)

    @classmethod
    def deny(cls, reason: str, message: str) -> Verdict:
        """No, and asking again will not help: the run ends as denied."""
        return cls(Decision.DENY, reason, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A bound that the store counts from the ledger of licences, inside the licence transaction.

    At most ``runs`` other runs of ``scope`` may have been licensed within ``window`` seconds; with ``since="end"``
    those count whose last effect ended within the window or has not ended (a cooldown). With the scope ``service``
    runs of ``rules`` count, which are those of the service named ``service``.
    """

    guard: str
    scope: Scope | Literal["service"]
    runs: int
    window: float
    since: Literal["start", "end"] = "start"
    service: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposed:
    """The change that is about to be made: by which action, on what, and from what to what (without secrets)."""

    uses: str
    target: str
    subject: str
    summary: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


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
    incident_key: str = ""
    """The problem, whatever incident of it this is."""
    service: str = ""
    siblings: Sequence[str] = ()
    """Names of the rules of the same service, this one included."""
    all_targets: Collection[str] = ()
    """Names of all targets of the settings."""
    change: Proposed | None = None
    """None where it is not known yet."""
    facts: Facts = NO_FACTS


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

    def watches(self) -> Sequence[str]:
        """Matchers, one text for each kind of alert that is to be kept for this guard though no rule answers it."""
        return ()

    def reads(self) -> Collection[str]:
        """Ids of the probes whose evidence this guard reads: the rule must have them."""
        return ()

    def looks_back(self) -> float:
        """How many seconds of history ``check`` needs; retention keeps at least as much."""
        return 0.0
