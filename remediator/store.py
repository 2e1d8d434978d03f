"""The port to durable state: every verb is one transaction, and every move of a run commits with its audit entries.

Adapters live in ``remediator/stores/`` and must pass tests/stores/. Times are the store's own clock. All verbs raise
StoreUnavailable when the store cannot answer; what else they raise stands at each verb.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from remediator.arrival import Arrival, Receipt
from remediator.audit import AuditRecord, Entry
from remediator.facts import Announced, GuardState, OpenedRun, PastChange, PastRun
from remediator.guard import Limit
from remediator.incident import Incident
from remediator.ledger import Ledger, Spend
from remediator.run import Found, Kind, Run, State


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectRow:
    """One licence and what came of it: ``intent`` (acting, or died acting), ``done``, ``failed`` or ``unknown``.

    Unique by (run_id, step, attempt): the only permission to act, used at most once.
    """

    id: str
    run_id: str
    step: int
    attempt: int
    epoch: int
    action: str
    target: str
    subject: str
    effect: str
    state: str
    change: Mapping[str, Any]
    outcome: Mapping[str, Any]
    licensed_at: float
    finished_at: float | None


class Claim(NamedTuple):
    """A run that is now ours, its incident, and the licences it has had, oldest first."""

    run: Run
    incident: Incident
    effects: tuple[EffectRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LicenceRequest:
    """Everything that is decided in the licence transaction, immediately before an effect.

    ``run`` is the run as it will be once licensed. ``approval`` is the digest of the change that a person must have
    granted, or "". ``announces`` names alerts that the effect will make fire, expected until ``announces_for`` seconds
    after it ended; ``answers`` is the alert that the run answers, from which the store counts how deep a chain is.
    """

    run: Run
    step: int
    attempt: int
    action: str
    target: str
    subject: str
    effect: str
    change: Mapping[str, Any]
    incident_key: str
    limits: Sequence[Limit]
    approval: str
    entry: Entry
    spend: Spend | None = None
    """Money to be reserved with the licence, counted against its caps in the same transaction."""
    under_way: bool = False
    """What was granted has been begun: it is carried through, also when the time to begin is over."""
    closing: bool = False
    """This puts something back, or tells people: the incident may be over, and no limit counts it."""
    announces: Sequence[str] = ()
    announces_for: float = 0.0
    answers: str = ""


class Licence(NamedTuple):
    """The committed permission to act once."""

    run: Run
    effect_id: str


class Refusal(NamedTuple):
    """Why there is no licence. ``kind`` is ``hold``, ``deny`` or ``cancel``; nothing was written or consumed."""

    kind: str
    reason: str
    message: str
    until: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """A question to people: may exactly these changes be made? ``digest`` binds the answer to what was shown."""

    id: str
    run_id: str
    digest: str
    changes: Sequence[Mapping[str, Any]]
    state: str
    needed: int
    requested_at: float
    expires_at: float
    votes: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    barred: Sequence[str] = ()
    """Whose yes does not count (``user:NAME``); their no does."""


class Pause(NamedTuple):
    """A kill switch in force: ``global``, ``rule:NAME`` or ``target:NAME``; ``until`` None means until resumed."""

    scope: str
    reason: str
    actor: str
    since: float
    until: float | None


class Counts(NamedTuple):
    """Figures for metrics and readiness."""

    states: Mapping[str, int]
    oldest_due: float | None
    """When the longest-waiting run that could be claimed now became due; None when nothing waits."""
    approvals_pending: int
    audit_records: int
    changes_in_force: int = 0
    """Temporary changes that have not gone back yet."""


class Tally(NamedTuple):
    """What became of the newest runs of a rule, one for each problem that it answered. Durations are seconds."""

    matched: int
    """All of them; each is also counted in one of the figures below."""
    observed: int
    """Would have acted, and only observed."""
    self_resolved: int
    """Of the observed ones: the problem went away without this rule."""
    self_resolved_after: float | None
    """Median of how long those problems lasted."""
    fixed: int
    """Acted, and the problem was seen to be gone."""
    fixed_after: float | None
    """Median of how long those problems lasted, until that was seen."""
    done: int
    """Acted, and nothing was asked about the problem."""
    nothing_to_do: int
    """Everything was already as it should be."""
    ineffective: int
    """Acted, and the problem was still there."""
    failed: int
    denied: int
    expired: int
    cancelled: int
    needs_human: int
    live: int
    """Go on still."""
    since: float | None
    """When the oldest of them was opened."""


class Pruned(NamedTuple):
    """What one call of ``prune`` removed. ``more`` says that the next call will find something to remove as well."""

    deliveries: int
    runs: int
    effects: int
    incidents: int
    records: int
    more: bool
    doubt: str
    """Why old records of the audit stay (they are not as they were written), or empty."""

    @property
    def anything(self) -> bool:
        """Whether anything was removed."""
        return any(self[:5])


class Store(Ledger, Protocol):
    """Durable state. One instance per process; every verb may be called concurrently.

    A licence with ``spend`` reserves money or is refused; the outcome of a licence gives back what was not signed.
    """

    # life
    async def open(self) -> None:
        """Open, migrate and take what must be held alone. Raises StoreError that says what to do."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, release everything."""
        ...

    async def ping(self) -> None:
        """Prove that a commit is possible now."""
        ...

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, in this event loop, when another process has made something due.

        Only a hint: it may come late, twice or never, and whoever asks for it polls as well.
        """
        ...

    # intake
    async def intake(self, arrival: Arrival) -> Receipt:
        """Commit a delivery: incidents, runs, cancellations and audit. Concurrent calls may share one commit."""
        ...

    async def remember(self, rules: Mapping[str, str], *entries: Entry) -> None:
        """Keep rule bodies by digest, so that runs can be read back after the rule was edited."""
        ...

    async def rule_body(self, digest: str) -> str:
        """The body kept under ``digest``. Raises NotFound."""
        ...

    # runs
    async def claim(self, owner: str, lease: float, most: int) -> Sequence[Claim]:
        """Take up to ``most`` due runs: epoch + 1 and a lease of ``lease`` seconds each.

        Due are queued and held runs whose time has come, and running or verifying ones that are due and whose lease
        ran out. No run is claimed while as many running runs as allowed act on one of its targets; a run whose
        licence has no outcome yet counts as one that acts, whatever it waits for, and is itself claimed when it is due.
        """
        ...

    async def renew(self, runs: Sequence[Run], lease: float) -> Collection[str]:
        """Lengthen leases by epoch; returns the ids of runs that are no longer ours."""
        ...

    async def save(self, run: Run, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Write ``run`` as moved and its audit entries. Raises Lost when epoch or version differ.

        ``follow`` are new runs that follow from this move; one that is there already (same kind, about the same) is
        left as it is. So it is in ``conclude`` and ``ask``.

        Here as in ``conclude`` and ``ask``: a run that goes to wait (held, verifying) and whose incident ended while
        it was with its owner is due at once.
        """
        ...

    async def licence(self, request: LicenceRequest) -> Licence | Refusal:
        """The licence transaction: fence, pauses, incident still open, approval, limits, spend, intent. Raises Lost."""
        ...

    async def conclude(
        self,
        run: Run,
        effect_id: str,
        state: str,
        outcome: Mapping[str, Any],
        *entries: Entry,
        follow: Sequence[Run] = (),
    ) -> Run:
        """Write what came of a licence together with the run's next state. Raises Lost; then call ``late``."""
        ...

    async def late(self, effect_id: str, state: str, outcome: Mapping[str, Any], entry: Entry) -> None:
        """Evidence from an owner that lost its run: appended and shown, never moves the run."""
        ...

    async def within(
        self, limits: Sequence[Limit], run: Run, incident_key: str, targets: Sequence[str]
    ) -> Refusal | None:
        """Whether the limits would allow a licence now; reads only."""
        ...

    async def next_due(self) -> float | None:
        """When the next run that nobody holds becomes due (store clock), or None."""
        ...

    async def run(self, run_id: str) -> Run:
        """One run. Raises NotFound. ``@latest`` names the newest."""
        ...

    async def runs(
        self,
        *,
        states: Sequence[State] = (),
        rule: str = "",
        incident: str = "",
        before: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (Kind.REMEDY,),
        about: str = "",
    ) -> Sequence[Run]:
        """Runs, newest first, that sort before the id ``before``; ``about`` is how theirs begins."""
        ...

    async def effects(self, run_id: str) -> Sequence[EffectRow]:
        """The licences of a run, oldest first."""
        ...

    async def incident(self, incident_id: str) -> Incident:
        """One incident. Raises NotFound."""
        ...

    async def incidents(self, *, open_only: bool = False, before: str = "", limit: int = 100) -> Sequence[Incident]:
        """Incidents, newest first."""
        ...

    async def latest(self, key: str) -> Incident | None:
        """The newest life of a problem, or None."""
        ...

    async def incidents_of(self, ids: Collection[str]) -> Mapping[str, Incident]:
        """Incidents by id, for showing many runs."""
        ...

    async def tally(self, rule: str) -> Tally:
        """What became of the newest runs of a rule (of 5,000 at most)."""
        ...

    # people
    async def ask(self, run: Run, approval: Approval, *entries: Entry, follow: Sequence[Run] = ()) -> Run:
        """Hold ``run`` and put a question to people; an older open question of the run is superseded. Raises Lost."""
        ...

    async def approval(self, run_id: str) -> Approval | None:
        """The newest question of a run, or None."""
        ...

    async def vote(self, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
        """A person's answer. Raises NotFound, and Conflict when the question is not open or shows another digest."""
        ...

    async def cancel(self, run_id: str, actor: str, comment: str, found: Found | None = None) -> Run:
        """A person cancels a run that is not acting just now. Raises NotFound, Conflict.

        One that has acted and has something to put back first is only asked to end: it does so at once. ``found`` is
        what became of the effect of a run that needs a person, which then ends as succeeded or failed.
        """
        ...

    async def retry(self, run_id: str, actor: str, comment: str) -> Run:
        """A person has a run tried once more that ended without changing anything, while its alert fires.

        It is queued as if it were new and keeps how it ended under ``before``. Raises NotFound, Conflict.
        """
        ...

    async def hasten(self, run_id: str, actor: str, comment: str) -> Run:
        """Have a temporary change go back now. Raises NotFound, Conflict."""
        ...

    async def acknowledge(self, run_id: str, actor: str, comment: str) -> Run:
        """A person takes over from the escalation ``run_id``: nobody else is called. Raises NotFound, Conflict."""
        ...

    async def pause(self, pause: Pause) -> None:
        """Engage or replace a pause; effective for every licence after this commit.

        It begins now and lasts as long as ``pause`` says between ``since`` and ``until``, by the store's clock.
        """
        ...

    async def resume(self, scope: str, actor: str, comment: str) -> None:
        """Release a pause and wake the runs it held. Raises NotFound."""
        ...

    async def pauses(self) -> Sequence[Pause]:
        """Pauses in force."""
        ...

    # what guards ask (facts.py); ``but`` is the run that asks, which is no part of the answer
    async def past_runs(self, of: str, values: Sequence[str], since: float, but: str, most: int) -> Sequence[PastRun]:
        """Up to ``most`` runs with a licence that go on, then those that ended after ``since``, the last to end first.

        ``values`` is one rule, incident key or target, the rules of a service, or nothing for ``global``.
        """
        ...

    async def past_changes(self, target: str, since: float, but: str, most: int) -> Sequence[PastChange]:
        """Licences on ``target`` given after ``since``, newest first, but those that certainly had no effect."""
        ...

    async def lives(self, key: str, most: int) -> Sequence[float]:
        """When the newest incidents of a problem began, newest first."""
        ...

    async def opened(self, since: float, most: int) -> Sequence[OpenedRun]:
        """The newest runs that were opened after ``since``, newest first."""
        ...

    async def opened_count(self, since: float, until: float) -> int:
        """How many incidents had runs opened after ``since`` and not after ``until``."""
        ...

    async def targets_firing(self) -> frozenset[str]:
        """Targets that the runs of open incidents may act on."""
        ...

    async def firing(self, texts: Sequence[str], most: int) -> Sequence[Incident]:
        """Open incidents, newest first, whose members as JSON hold every one of ``texts``."""
        ...

    async def announced(self, alert: str, at: float, but: str) -> Sequence[Announced]:
        """Who had announced ``alert`` for the instant ``at``, the longest expected first."""
        ...

    async def guard_states(self, guard: str = "", *, open_only: bool = False) -> Sequence[GuardState]:
        """What guards keep, of one guard if named."""
        ...

    async def open_guard(self, wanted: GuardState) -> GuardState:
        """Open a guard's state durably, or lengthen the open one; what it is then.

        ``wanted.since`` is when the caller looked: what was closed after that stays closed.
        """
        ...

    async def close_guard(self, guard: str, scope: str, actor: str, reason: str) -> Sequence[GuardState]:
        """Close what ``guard`` has open under ``scope``, or all of it for ``""``, and wake the runs that it holds.

        What was closed, as it is now. Raises NotFound if nothing is open.
        """
        ...

    # audit
    async def append(self, *entries: Entry) -> None:
        """Record what moves no run: log-ins, refusals, reloads, exports."""
        ...

    async def audit(
        self, *, after: int = 0, before: int = 0, limit: int = 100, run: str = "", rule: str = "", event: str = ""
    ) -> Sequence[AuditRecord]:
        """Records in rising order after ``after``; with ``before`` > 0 the newest below it, falling."""
        ...

    def audit_stream(self) -> AsyncIterator[AuditRecord]:
        """Every record in rising order, for verification and export."""
        ...

    # retention
    async def prune(self, keep: float, most: int) -> Pruned:
        """Remove, in one short transaction, some of what ended more than ``keep`` seconds ago, and record it.

        Up to ``most`` each of ended runs with all that hangs on them, of closed incidents without a run, and of
        deliveries; and the oldest whole segment of the audit if its chain is right. Never a run that is live or needs
        a person, never an open incident, never what a limit within ``keep`` counts.
        """
        ...

    async def backlog(self) -> int:
        """How many runs are queued, held or running: what acting still has before it."""
        ...

    async def counts(self) -> Counts:
        """Figures for metrics and readiness."""
        ...
