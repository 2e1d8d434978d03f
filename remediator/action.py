"""The contract of an action: one lever on one kind of target, its effect class, and what it did."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from remediator.clock import Clock
from remediator.errors import TemporaryError
from remediator.ledger import Ledger, Spend
from remediator.target import Target

T = TypeVar("T", bound=Target)


class Effect(StrEnum):
    """What a crash between an effect and its record means; decides recovery (docs/explanation/effects.md)."""

    IDEMPOTENT = "idempotent"
    """Doing it twice equals doing it once: after a crash it is done again, under a new licence."""
    CONDITIONAL = "conditional"
    """Guarded by a precondition of the target (resourceVersion, compare-and-swap): look, then do it again."""
    KEYED = "keyed"
    """The other side drops a second copy that carries the same key: send the same key again."""
    PROBE = "probe"
    """No precondition, but the effect can be seen: wait, look, and only then decide."""
    ONCE = "once"
    """Cannot be seen and must not be doubled: after a crash a person decides (needs_human)."""


class Happened(StrEnum):
    """Answer of ``reconcile``: did the interrupted effect take place?"""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# What JSONEncoder.encode makes anew for every value: nothing here is written more often than canonical JSON.
_CANONICAL = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # the library's types leave both names out
    None, _ENCODER.default, json.encoder.encode_basestring, None, ":", ",", True, False, False
)


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, UTF-8; NaN and infinities are refused (RFC 8785 subset)."""
    return "".join(_CANONICAL(value, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What an action would change, read from the target just now. What the approver sees is what the audit keeps.

    ``before`` and ``after`` are JSON; they hold every value the effect depends on, so that a different target
    state gives a different ``digest``. ``volatile`` holds what ``apply`` needs but an approver does not approve
    (a resourceVersion): kept with the run, outside the digest.
    """

    summary: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    volatile: Mapping[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when the target already is as wanted: nothing to do, and nothing will be done."""
        return self.before == self.after

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of before and after, hex."""
        return hashlib.sha256(
            canonical_json({"after": self.after, "before": self.before, "summary": self.summary}).encode()
        ).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The change as JSON data, ``from_json`` reads it back."""
        return {
            "summary": self.summary,
            "before": dict(self.before),
            "after": dict(self.after),
            "volatile": dict(self.volatile),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """The change that ``as_json`` wrote."""
        return cls(
            summary=data["summary"], before=data["before"], after=data["after"], volatile=data.get("volatile", {})
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What ``apply`` can say when the effect took place: a sentence, and JSON data for later steps and the audit."""

    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionContext:
    """What an action may know besides its parameters and its target.

    ``key`` is unique to (run, step) and the same on every attempt: idempotency keys and annotations are made
    of it. ``deadline`` is on ``clock.monotonic()``: no first byte of an effect may leave after it.
    """

    run_id: str
    step: str
    attempt: int
    key: str
    clock: Clock
    deadline: float
    ledger: Ledger | None = None
    """Where money is kept, for actions that spend."""

    def check_deadline(self) -> None:
        """Call right before the first byte of an effect leaves. Raises TemporaryError once the licence ran out."""
        if self.clock.monotonic() > self.deadline:
            raise TemporaryError("the licence to act ran out before the effect began", reason="licence_expired")


def spends(action: Action[Any]) -> bool:
    """Whether ``action`` moves money: its unknown end is no failure, its licence stays open until it is proven."""
    return type(action).spend is not Action.spend


class Action(BaseModel, ABC, Generic[T]):
    """One lever. The fields of a subclass are its YAML parameters (``with:``); each carries a description.

    A subclass lives in ``remediator/integrations/<system>/<name>.py``, is named by that path
    (``<system>.<name>``) and declares ``effect``. Its docstring is the first text of its reference page.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    effect: ClassVar[Effect]
    literal: ClassVar[frozenset[str]] = frozenset()
    """Parameters that may hold no placeholder, because their text is code of some kind (PromQL, SQL)."""

    def effect_on(self, target: T) -> Effect:
        """The effect class on this very target, where the operator's settings decide it; else the class's own."""
        return type(self).effect

    def needs_approval(self, target: T) -> bool:
        """True where a person must say yes whatever the rule's mode says: what stops or restarts a whole system."""
        return False

    @abstractmethod
    def needs(self) -> Mapping[str, str]:
        """What the target must permit beyond the action's name: permit list → the one value it must allow.

        ``{"namespaces": "production", "deployments": "minting-worker"}``. Empty only if nothing narrows it.
        """

    def subject(self) -> str:
        """The thing inside the target that is acted on (``deployment/production/minting-worker``).

        Two runs never act on one subject at once; ``""`` means the whole target.
        """
        return ""

    def spend(self, target: T, change: Change) -> Spend | None:
        """The money that the licence for ``change`` must reserve; only actions that spend define it.

        Raises PermanentError where nothing may be spent.
        """
        return None

    @abstractmethod
    async def diff(self, target: T, context: ActionContext) -> Change:
        """Read the target and say what would change. Writes nothing, ever.

        Raises TemporaryError, PermanentError.
        """

    @abstractmethod
    async def apply(self, target: T, change: Change, context: ActionContext) -> Outcome:
        """The only call that touches the world. Calls ``context.check_deadline()`` right before it does.

        Raises TemporaryError or PermanentError only if the effect certainly did not happen; any other exception
        (a time-out above all) means "unknown", and the effect class decides what follows.
        """

    async def verify(self, target: T, change: Change, context: ActionContext) -> None:
        """The action's own post-condition; returns when it holds.

        Raises TemporaryError while it does not hold yet (the engine asks again until the step's time-out) and
        PermanentError when it never will.
        """
        return None

    def inverse(self, change: Change) -> Action[T] | None:
        """What undoes ``change``, compare-and-swap; None where nothing can."""
        return None

    def reversible(self, target: T) -> bool:
        """Whether its changes have an inverse, as far as parameters and settings say: no reading, no waiting."""
        return type(self).inverse is not Action.inverse

    async def reconcile(self, target: T, change: Change, context: ActionContext) -> Happened:
        """After a crash: did ``change`` take place? Reads only. UNKNOWN where it cannot be told."""
        return Happened.UNKNOWN
