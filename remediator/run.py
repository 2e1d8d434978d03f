"""A run, its states, and the only moves between them.

The table ``MOVES`` is the whole truth: the engine cannot make another move, the store refuses one, and the diagram
in docs/reference/states.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from remediator.errors import StateError


class State(StrEnum):
    """Where a run is. The first four go on; the others are ends, of which only ``needs_human`` waits for a person."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    VERIFYING = "verifying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    OBSERVED = "observed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NEEDS_HUMAN = "needs_human"


LIVE = frozenset((State.QUEUED, State.HELD, State.RUNNING, State.VERIFYING))
"""States that still go on; everything else is an end."""

NOT_STARTED = frozenset((State.QUEUED, State.HELD))
"""States in which nothing has been begun that a resolved alert could interrupt."""

MOVES: Mapping[tuple[State, State], str] = {
    (State.QUEUED, State.RUNNING): "claimed by a worker",
    (State.QUEUED, State.CANCELLED): "the alert resolved, or a person cancelled, before it began",
    (State.HELD, State.HELD): "a person spoke, and it will be looked at now",
    (State.HELD, State.RUNNING): "what it waited for is there, or its time has come",
    (State.HELD, State.CANCELLED): "the alert resolved, or a person cancelled, while it waited",
    (State.HELD, State.DENIED): "a person rejected it",
    (State.RUNNING, State.RUNNING): "a step is done and the next one follows, or a new owner took it over",
    (State.RUNNING, State.QUEUED): "handed back by a drain, or a temporary error with tries left",
    (State.RUNNING, State.HELD): "a guard holds it, or it waits for approval",
    (State.RUNNING, State.VERIFYING): "all steps are done and the problem must be seen to go",
    (State.RUNNING, State.SUCCEEDED): "all steps are done and nothing else was asked for",
    (State.RUNNING, State.FAILED): "a step failed and nothing is left to try",
    (State.RUNNING, State.DENIED): "a condition, a guard or a permission says no",
    (State.RUNNING, State.OBSERVED): "observe mode says what it would have done",
    (State.RUNNING, State.CANCELLED): "the alert resolved, the rule changed, or a person cancelled, before an effect",
    (State.RUNNING, State.EXPIRED): "too old to act on",
    (State.RUNNING, State.NEEDS_HUMAN): "an effect may or may not have happened and must not be repeated",
    (State.VERIFYING, State.VERIFYING): "looked, and the problem is still there, or a new owner took it over",
    (State.VERIFYING, State.HELD): "it did not help, and it is undone or something else is tried",
    (State.VERIFYING, State.SUCCEEDED): "the problem is gone",
    (State.VERIFYING, State.FAILED): "the problem is still there after the time it was given",
    (State.FAILED, State.QUEUED): "a person asked to try again, for it had changed nothing",
    (State.DENIED, State.QUEUED): "a person asked to try again, for it had changed nothing",
    (State.EXPIRED, State.QUEUED): "a person asked to try again, for it had changed nothing",
    (State.NEEDS_HUMAN, State.SUCCEEDED): "a person found that the effect happened",
    (State.NEEDS_HUMAN, State.FAILED): "a person found that the effect did not happen",
    (State.NEEDS_HUMAN, State.CANCELLED): "a person closed it",
}
"""Every move there is, and what it means."""


class Found(StrEnum):
    """What a person found out about an effect of which nobody knew."""

    HAPPENED = "happened"
    NOT_HAPPENED = "not_happened"


class Kind(StrEnum):
    """What a run is for."""

    REMEDY = "remedy"
    """The carrying-out of a rule for an incident."""
    REVERT = "revert"
    """The way back of a change that is in force for a time only."""
    ESCALATION = "escalation"
    """People are told, one after the other, until somebody takes over."""


class Lock(NamedTuple):
    """What a run may be the only one to act on: a subject of a target (``""`` is the whole target).

    ``most`` is how many running runs the target allows on one subject; 1 unless the settings say otherwise.
    """

    target: str
    subject: str
    most: int

    def overlaps(self, other: Lock) -> bool:
        """Whether both are about the same thing, or one is about the whole target of the other."""
        return self.target == other.target and (
            not self.subject or not other.subject or self.subject == other.subject
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One carrying-out of one rule for one incident. Immutable; ``move`` returns the run after the move.

    Runs of another ``kind`` follow from such a run; ``about`` is what they are about, and unique among their kind.

    ``epoch`` counts owners (each claim adds one), ``version`` counts writes; a store accepts a write only with both as
    it knows them. ``progress`` is JSON: ``evidence`` by probe id, ``verdicts``, ``steps`` (one object a step),
    ``remedies``, ``verify``, ``closing``. Instants are Unix seconds.
    """

    id: str
    rule: str
    rule_digest: str
    incident_id: str
    state: State
    reason: str
    message: str
    mode: str
    epoch: int
    version: int
    owner: str
    lease_until: float
    wake_at: float
    created_at: float
    updated_at: float
    due_at: float
    locks: tuple[Lock, ...]
    tries: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.REMEDY
    about: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets the run may act on."""
        return tuple(dict.fromkeys(lock.target for lock in self.locks))

    @property
    def live(self) -> bool:
        """Whether the run still goes on."""
        return self.state in LIVE

    def move(
        self,
        to: State,
        reason: str,
        message: str,
        *,
        now: float,
        wake_at: float | None = None,
        progress: Mapping[str, Any] | None = None,
        mode: str | None = None,
        tries: int | None = None,
    ) -> Run:
        """The run in state ``to``. ``reason`` is a stable word, ``message`` a sentence for people.

        Raises StateError for a move that is not in MOVES.
        """
        if (self.state, to) not in MOVES:
            raise StateError(f"run {self.id}: no move from {self.state} to {to}")
        owned = to is State.RUNNING
        return replace(
            self,
            state=to,
            reason=reason,
            message=message,
            updated_at=now,
            wake_at=self.wake_at if wake_at is None else wake_at,
            owner=self.owner if owned else "",
            lease_until=self.lease_until if owned else 0.0,
            progress=self.progress if progress is None else progress,
            mode=self.mode if mode is None else mode,
            tries=self.tries if tries is None else tries,
        )


SOURCES: Mapping[State, tuple[State, ...]] = {to: tuple(a for a, b in MOVES if b is to) for to in State}
"""From which states each state can be reached: what a store demands of the row that it replaces."""


def diagram() -> str:
    """The table of moves as a Mermaid state diagram (whose texts may hold no colon and no semicolon)."""
    lines = ["stateDiagram-v2", "    [*] --> queued: an incident opened and the rule matches"]
    lines += [f"    {a} --> {b}: {why}" for (a, b), why in MOVES.items()]
    ends = [s for s in State if s not in LIVE and s is not State.NEEDS_HUMAN]
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(lines) + "\n"
