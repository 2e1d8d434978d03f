"""What must be true when all is over: the invariants of every history, and the lives there truly were."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from remediator.run import LIVE, Kind, Run, State
from tests import closed_loop, invariants, lives
from tests.simulation.loop import EPOCH
from tests.simulation.rules import OFTEN_GONE, by_digest
from tests.simulation.senders import Life

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_GROUPED = "Two"
"""The alert that one of the rules groups: several of its lives may be one incident."""


async def judge(simulation: Simulation) -> list[Run]:
    """Raise AssertionError for the first thing that is not as it must be; every run as it is in the end."""
    effects = [effect for server in simulation.servers.values() for effect in server.done]
    history = await invariants.check(
        simulation.truth, effects, receipts=simulation.senders.acknowledged, max_runs=99
    )
    pauses = {pause.scope for pause in await simulation.truth.pauses()}
    for run in history.runs.values():
        _ended(run, pauses)
    _epochs(simulation, effects, history)
    writes = [write for server in simulation.servers.values() for write in server.writes]
    closed_loop.check(history, by_digest(), writes)
    _lives(simulation, history)
    return list(history.runs.values())


def may_wait(run: Run, now: float) -> bool:
    """Whether a run waits for a person who may never come: who paused, or lowered what rules may do."""
    paused = run.state is State.HELD and run.reason == "paused" and run.wake_at > now
    return paused or _observing(run)


def _observing(run: Run) -> bool:
    return run.kind is Kind.REVERT and run.state is State.HELD and "may only observe" in run.message


def _ended(run: Run, pauses: set[str]) -> None:
    """I9: an end, or a person who paused it and did not come back."""
    behind = run.kind is Kind.REVERT and "goes back first" in run.message and pauses
    if run.state not in LIVE or _observing(run) or behind:
        return
    scopes = {"global", f"rule:{run.rule}", *(f"target:{name}" for name in run.targets)}
    held = run.state is State.HELD and run.reason == "paused" and scopes & pauses
    assert held, f"I9: {run.id} never ended: {run.state}, {run.reason}: {run.message}"


def _epochs(simulation: Simulation, effects: list[invariants.Effect], history: invariants.History) -> None:
    """I3: each true effect has a licence of its own, which was given before."""
    rows = {(row.run_id, row.step, row.attempt): row for row in history.rows}
    assert len(rows) == len(simulation.witness.granted), "I3: licences and what was granted differ"
    used = Counter((effect.run, effect.step, effect.attempt) for effect in effects)
    for key, times in used.items():
        assert times == 1, f"I3: the licence {key} was used {times} times"


def _lives(simulation: Simulation, history: invariants.History) -> None:
    """I1, I2: at most one run for each true life and rule, and one wherever the life was told of in time."""
    queued: Counter[tuple[Life, str]] = Counter()
    for body in history.bodies:
        if body["event"] == "run.queued" and "labels" in body["detail"]:
            life = _life(simulation, body["detail"]["labels"], body["detail"]["starts_at"], body["rule"])
            if life is not None:
                queued[life, body["rule"]] += 1
    for (life, rule), count in queued.items():
        assert count == 1, f"I2: {count} runs of {rule} for one life of {life.name}"
    _opened(simulation, queued)


def _life(simulation: Simulation, labels: dict[str, str], starts_at: float, rule: str) -> Life | None:
    if rule == "two-steps":
        return None  # Its incidents are groups.
    for life in simulation.lives:
        if life.labels == labels and any(abs(EPOCH + start - starts_at) < 0.001 for start in life.starts):
            return life
    raise AssertionError(f"I2: a run was queued for an alert that never was: {labels}, {starts_at}")


def _opened(simulation: Simulation, queued: Counter[tuple[Life, str]]) -> None:
    must: dict[str, set[str]] = {}
    for rule in simulation.replicas[0].loaded.rules.values():
        for name in rule.when.alert:
            must.setdefault(name, set()).add(rule.name)
    for name in {life.name for life in simulation.lives}:
        mine = {life.number: life for life in simulation.lives if life.name == name}
        for told in lives.in_order(_told(simulation, mine)):
            life = mine[told.number]
            for rule_name in must.get(life.labels["alertname"], set()) - {OFTEN_GONE, "kick-nothing", "two-steps"}:
                assert queued[life, rule_name] == 1, f"I1: life {life.number} of {name} has no run of {rule_name}"


def _told(simulation: Simulation, mine: dict[int, Life]) -> list[lives.Told]:
    """The notices of one alert in the order in which they were committed."""
    found = []
    for at, arrival, _ in simulation.witness.deliveries:
        for alert in arrival.delivery.alerts:
            for life in mine.values():
                begun = any(abs(EPOCH + start - alert.starts_at) < 0.001 for start in life.starts)
                if begun and dict(alert.labels) == dict(life.labels):
                    what = lives.Life(life.name, life.number, life.starts, life.end)
                    found.append(lives.Told(at, what, alert.firing, alert.starts_at - EPOCH))
    return found
