"""What tests of guards give a guard to know: a context with everything at rest, and facts that say what a test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from remediator.facts import Announced, FiringAlert, GuardState, Of, OpenedRun, PastChange, PastRun
from remediator.guard import GuardContext, Proposed

NOW = 1_800_000_000.0


@dataclass
class Said:
    """Facts as a test says them; what was opened and closed is kept."""

    runs: list[PastRun] = field(default_factory=list)
    changes: list[PastChange] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    new: list[OpenedRun] = field(default_factory=list)
    usual: int = 0
    targets: frozenset[str] = frozenset()
    alerts: list[FiringAlert] = field(default_factory=list)
    causes: list[Announced] = field(default_factory=list)
    states: dict[tuple[str, str], GuardState] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    now: float = NOW

    async def past_runs(self, of: Of, since: float) -> Sequence[PastRun]:
        self.asked.append((of, since))
        found = [run for run in self.runs if run.over_at is None or run.over_at > since]
        return sorted(found, key=lambda run: (run.over_at is None, run.over_at or 0.0), reverse=True)

    async def past_changes(self, target: str, since: float) -> Sequence[PastChange]:
        self.asked.append((target, since))
        return sorted((c for c in self.changes if c.licensed_at > since), key=lambda c: c.licensed_at, reverse=True)

    async def lives(self, most: int) -> Sequence[float]:
        return sorted(self.begun, reverse=True)[:most]

    async def opened(self, since: float) -> Sequence[OpenedRun]:
        return sorted((run for run in self.new if run.at > since), reverse=True)

    async def opened_count(self, since: float, until: float) -> int:
        return self.usual + len({run.incident_id for run in self.new if since < run.at <= until})

    async def targets_firing(self) -> frozenset[str]:
        return self.targets

    async def firing(self, matchers: Sequence[str]) -> Sequence[FiringAlert]:
        self.asked.append(tuple(matchers))
        return self.alerts

    async def announced(self, alert: str) -> Sequence[Announced]:
        self.asked.append((alert,))
        return self.causes

    async def state(self, guard: str, scope: str) -> GuardState | None:
        return self.states.get((guard, scope))

    async def open(self, guard: str, scope: str, why: str, until: float | None = None) -> GuardState:
        before = self.states.get((guard, scope))
        since = before.since if before is not None and before.open else self.now
        made = self.states[guard, scope] = GuardState(guard, scope, True, since, until, why, "remediator")
        return made

    async def close(self, guard: str, scope: str, why: str) -> None:
        before = self.states[guard, scope]
        self.states[guard, scope] = before._replace(open=False, since=self.now, until=None, why=why)

    def release(self, guard: str, scope: str, at: float) -> None:
        """A person says that it is over."""
        before = self.states[guard, scope]
        self.states[guard, scope] = before._replace(open=False, since=at, until=None, actor="user:ann")


def context(facts: Said | None = None, *, at: float = NOW, **more: Any) -> GuardContext:
    """A run of rule ``a`` of the service ``shop`` on ``prod`` that is about to scale ``web`` from 3 to 5."""
    facts = facts or Said()
    facts.now = at
    known: dict[str, Any] = {
        "run_id": "r", "rule": "a", "mode": "auto", "now": at, "labels": {"alertname": "Lag"}, "severity": "",
        "targets": ("prod",), "created_at": at, "evidence": {}, "approved": False, "pauses": {},
        "incident_key": "key", "service": "shop", "siblings": ("a", "b"), "all_targets": ("prod",),
        "change": proposed({"replicas": 3}, {"replicas": 5}), "facts": facts,
    }  # fmt: skip
    return GuardContext(**{**known, **more})


def proposed(before: dict[str, Any], after: dict[str, Any], *, target: str = "prod", subject: str = "web") -> Proposed:
    """A change that is about to be made."""
    return Proposed(
        uses="kubernetes.scale", target=target, subject=subject, summary="the change", before=before, after=after
    )


def ended(at: float, state: str = "failed", reason: str = "", *, run: str = "") -> PastRun:
    """A run that acted and was over at ``at``, a minute after its licence."""
    return PastRun(run or f"run over at {at}", "a", state, reason, at - 60, at)


def seen(**probes: Any) -> dict[str, Any]:
    """Evidence by probe id; an exception's text stands for a probe that failed."""
    return {
        name: {"ok": False, "error": value, "value": {}} if isinstance(value, str) else {"ok": True, "value": value}
        for name, value in probes.items()
    }
