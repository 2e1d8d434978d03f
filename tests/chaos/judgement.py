"""Holds what the database says at the end against what senders, Alertmanagers and the target have seen."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from remediator.action import Effect
from remediator.clock import SystemClock
from remediator.ids import SystemIds
from remediator.incident import Incident
from remediator.run import Run, State
from remediator.stores.postgres import PostgresStore
from tests import invariants
from tests.chaos.fleet import Fleet
from tests.chaos.rules import CALLS_PEOPLE, LIMITS
from tests.chaos.schedule import LEASE
from tests.crash.scene import PATHS, Outside

_SLACK = 1.0
"""Seconds by which the target, which shares its processor with everything else, may notice a request late."""
ENDS = (State.SUCCEEDED, State.CANCELLED, State.NEEDS_HUMAN)
"""How a run may end here: nothing fails but what was killed, and nobody says no."""


class Judged:
    """A history in which nothing is wrong."""

    def __init__(self, history: invariants.History, incidents: dict[str, Incident]) -> None:
        self.runs = history.runs
        self.licences = len(history.rows)
        self.records = len(history.records)
        self.events = Counter(body["event"] for body in history.bodies)
        self.ends = Counter(f"{run.state} ({run.reason})" for run in self.runs.values())
        self.incidents = incidents


async def judge(
    fleet: Fleet, *, groups: Collection[str] = (), bodies: Collection[str] = (), problems: Collection[str] = ()
) -> Judged:
    """Raise AssertionError for the first promise that was not kept. No replica may be running.

    ``groups`` are group keys and ``bodies`` SHA-256 digests of deliveries that were answered with 200; ``problems``
    the identities of alerts that were told firing in one of them, each known to one rule.
    """
    clock = SystemClock()
    store = PostgresStore(fleet.postgres.url(), clock=clock, ids=SystemIds(clock))
    await store.open()
    try:
        history = await invariants.check(store, fleet.outside.effects, ended=True, max_runs=100)
        ids = sorted({run.incident_id for run in history.runs.values()})
        incidents = dict(await store.incidents_of(ids))
    finally:
        await store.close()
    _nothing_lost(history, groups, bodies)
    _one_run_each(history, incidents, problems)
    _ends(history, incidents, fleet.outside)
    _in_time(history, fleet.outside)
    _alone(history, fleet.outside)
    _limits(history)
    return Judged(history, incidents)


def _nothing_lost(history: invariants.History, groups: Collection[str], bodies: Collection[str]) -> None:
    """I1, as the senders see it: what was answered with 200 is in the audit."""
    accepted = [body["detail"] for body in history.bodies if body["event"] == "delivery.accepted"]
    lost = set(groups) - {detail["group_key"] for detail in accepted}
    assert not lost, f"{len(lost)} acknowledged deliveries are lost: {sorted(lost)[:5]}"
    lost = set(bodies) - {detail["body_sha256"] for detail in accepted}
    assert not lost, f"{len(lost)} bodies that Alertmanager saw accepted are lost: {sorted(lost)[:5]}"


def _one_run_each(
    history: invariants.History, incidents: dict[str, Incident], problems: Collection[str]
) -> None:
    """I1 and I2, as the senders see it: each problem has exactly one run, however often and wherever it was told."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in history.runs.values():
        runs[incidents[run.incident_id].labels["id"]].append(run)
    missing = [problem for problem in problems if problem not in runs]
    assert not missing, f"{len(missing)} problems were acknowledged and have no run: {sorted(missing)[:5]}"
    doubled = {problem: [run.id for run in many] for problem, many in runs.items() if len(many) > 1}
    assert not doubled, f"more than one run for one problem: {doubled}"


def _ends(history: invariants.History, incidents: dict[str, Incident], outside: Outside) -> None:
    """Each run ended as it may, with the effects that it tells of; a person is called for class ``once`` only.

    That a remedy did not help may only be said of a problem whose end nobody has told.
    """
    doubtful = {row.run_id for row in history.rows if row.state == "unknown"}
    for run in history.runs.values():
        what = f"run {run.id} of {run.rule}: {run.state}, {run.reason}: {run.message}"
        waited = (run.state, run.reason) == (State.FAILED, "ineffective") and incidents[run.incident_id].open
        assert run.state in ENDS or waited, what
        if run.state is State.NEEDS_HUMAN:
            assert run.rule in CALLS_PEOPLE and run.reason == "unknown_outcome", what
        done = outside.by_run[run.id]
        for path, times in done.items():
            assert PATHS[path] is Effect.IDEMPOTENT or times == 1, f"{path} took place {times} times: {what}"
        if run.state is State.SUCCEEDED and not (run.reason == "resolved" and run.id in doubtful):
            # The alert may resolve while nobody knows what became of a licence; then there is nothing left to do.
            assert done["/" + run.rule] >= 1, f"no effect was seen: {what}"
        if run.state is State.CANCELLED:
            assert not done, f"{dict(done)} was seen: {what}"


def _in_time(history: invariants.History, outside: Outside) -> None:
    """No effect began later after its licence than the lease allows, whoever slept in between."""
    licensed: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in history.rows:
        licensed[row.run_id, str(row.step)].append(row.licensed_at)
    for effect in outside.effects:
        before = [at for at in licensed[effect.run, effect.step] if at <= effect.begun + 0.01]
        late = effect.begun - max(before)
        assert late < 0.8 * LEASE + _SLACK, f"{effect} began {late:.2f} s after its licence"


def _alone(history: invariants.History, outside: Outside) -> None:
    """I5: on the target that takes one run at a time, no licence and no effect ever met another one."""
    rows = sorted((row for row in history.rows if row.target == "single"), key=lambda row: row.licensed_at)
    for row in rows:
        for other in rows:
            if other.run_id != row.run_id and other.licensed_at <= row.licensed_at:
                assert other.finished_at is not None and other.finished_at <= row.licensed_at, f"{other} met {row}"
    effects = [each for each in outside.effects if history.runs[each.run].rule == "alone"]
    effects.sort(key=lambda effect: effect.begun)
    for first, second in itertools.pairwise(effects):
        assert first.ended <= second.begun, f"{first} and {second} took place at once"


def _limits(history: invariants.History) -> None:
    """I6: in no window were more runs licensed than the limit says."""
    grants: list[tuple[float, str]] = sorted(
        (row.licensed_at, row.run_id) for row in history.rows if history.runs[row.run_id].rule == "limited"
    )
    for runs, window in LIMITS:
        for at, _ in grants:
            within = {run_id for granted, run_id in grants if at - window < granted <= at}
            assert len(within) <= runs, f"{len(within)} runs were licensed within {window:g} s before {at}"


def bugs(fleet: Fleet) -> Sequence[str]:
    """Lines in which a replica says that it has met a bug of its own."""
    return [line for replica in fleet.replicas for line in replica.log().splitlines() if "a bug" in line]
