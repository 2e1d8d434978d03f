"""What guards may ask of the durable record: a few narrow questions, and what the answers look like.

Whoever answers is bound to one run: its own licences and its own incident are never part of an answer, unless a
question says so. Instants are Unix seconds by the store's clock. An answer that would be cut short raises instead,
and a guard that raises denies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

Of = str
"""Whose runs are asked for: ``rule``, ``incident`` (this very problem), ``target``, ``service`` or ``global``."""


class PastRun(NamedTuple):
    """A run that was licensed to act; ``over_at`` is None while it goes on."""

    run_id: str
    rule: str
    state: str
    reason: str
    licensed_at: float
    over_at: float | None


class PastChange(NamedTuple):
    """A change that another run was licensed to make; ``state`` is the licence's: intent, done or unknown."""

    run_id: str
    rule: str
    action: str
    subject: str
    state: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    licensed_at: float


class OpenedRun(NamedTuple):
    """A run that was opened, acted or not: when, for which incident, by which rule."""

    at: float
    incident_id: str
    rule: str


class FiringAlert(NamedTuple):
    """An alert that fires as far as Alertmanager has told: since when, and when it was last told of."""

    labels: Mapping[str, str]
    since: float
    seen_at: float


class Announced(NamedTuple):
    """An alert that a step of another run makes fire: expected until ``until``.

    ``depth`` is 0 if that run answered an alert of its own, 1 if it answered an announced one, and so on.
    """

    run_id: str
    rule: str
    licensed_at: float
    until: float
    depth: int


class GuardState(NamedTuple):
    """What a guard keeps until it is over or a person releases it: a breaker that opened, a storm that began.

    ``scope`` is ``global``, ``rule:NAME``, ``target:NAME`` or ``incident:KEY``. ``since`` is when it opened, or was
    closed; ``until`` the earliest end by itself, None if there is none. ``actor`` opened or closed it.
    """

    guard: str
    scope: str
    open: bool
    since: float
    until: float | None
    why: str
    actor: str


class Facts(Protocol):
    """The questions. All raise StoreUnavailable when the store cannot answer."""

    async def past_runs(self, of: Of, since: float) -> Sequence[PastRun]:
        """Other runs with a licence that go on or ended after ``since``, the last to end first, the newest 100."""
        ...

    async def past_changes(self, target: str, since: float) -> Sequence[PastChange]:
        """What other runs were licensed to change on ``target`` after ``since``, newest first; failed ones not."""
        ...

    async def lives(self, most: int) -> Sequence[float]:
        """When the newest incidents of this very problem began, newest first, the present one included."""
        ...

    async def opened(self, since: float) -> Sequence[OpenedRun]:
        """The newest 2000 runs that were opened after ``since``, of any rule, newest first, this one included."""
        ...

    async def opened_count(self, since: float, until: float) -> int:
        """How many incidents had runs opened after ``since`` and not after ``until``."""
        ...

    async def targets_firing(self) -> frozenset[str]:
        """Targets of the runs whose incident is open, of any rule, this run included."""
        ...

    async def firing(self, matchers: Sequence[str]) -> Sequence[FiringAlert]:
        """Alerts that match all ``matchers`` and fire, but those of this run's own problem."""
        ...

    async def announced(self, alert: str) -> Sequence[Announced]:
        """Which other runs had announced ``alert`` when this run was opened."""
        ...

    async def state(self, guard: str, scope: str) -> GuardState | None:
        """What ``guard`` keeps under ``scope``, open or closed; None if it never opened."""
        ...

    async def open(self, guard: str, scope: str, why: str, until: float | None = None) -> GuardState:
        """Open it durably, with a record, or lengthen what is open; whoever only looks changes nothing."""
        ...

    async def close(self, guard: str, scope: str, why: str) -> None:
        """Close it by itself, with a record: its time is over, or a probe shows that all is well."""
        ...


class NoFacts:
    """Where there is no record, every question raises, so that a guard which asks one says no."""

    def __getattr__(self, name: str) -> Any:
        """Raises LookupError when asked."""

        async def ask(*_: Any) -> Any:
            raise LookupError(f"there is no record here to ask ({name})")

        return ask


NO_FACTS = cast(Facts, NoFacts())
