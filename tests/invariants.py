"""What must be true of every history, whatever happened: invariants of runs, licences, effects and the audit.

One checker for all tests of the engine, of crashes and of chaos. It reads through the port of the store only, and
compares with what the world outside says was truly done to it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from remediator import action, audit
from remediator.arrival import Receipt
from remediator.run import LIVE, MOVES, Kind, Run, State
from remediator.store import EffectRow, Store

__all__ = ["LIVE", "Effect", "check"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something that truly took place outside, as the outside tells it. ``begun`` and ``ended`` are Unix seconds."""

    run: str
    step: str
    attempt: int
    """0 where the outside cannot tell."""
    target: str
    subject: str
    kind: action.Effect
    begun: float
    ended: float


class History:
    """Everything a store knows, read once."""

    def __init__(self, runs: Sequence[Run], rows: Sequence[EffectRow], records: Sequence[audit.AuditRecord]) -> None:
        self.runs = {run.id: run for run in runs}
        self.rows = list(rows)
        self.records = list(records)
        self.bodies = [json.loads(record.body) for record in records]
        self.closing = {
            (body["run_id"], body["detail"]["step"], body["detail"]["attempt"])
            for body in self.bodies
            if body["event"] == "effect.intent" and body["detail"].get("closing")
        }
        """The licences that only put something in order."""

    @classmethod
    async def read(cls, store: Store) -> History:
        runs: list[Run] = []
        while page := await store.runs(before=runs[-1].id if runs else "", limit=500, kinds=tuple(Kind)):
            runs += page
        rows = [row for run in runs for row in await store.effects(run.id)]
        return cls(runs, rows, [record async for record in store.audit_stream()])

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """The audit of one run, oldest first."""
        return [body for body in self.bodies if body["run_id"] == run_id]


async def check(
    store: Store,
    effects: Iterable[Effect] = (),
    *,
    receipts: Iterable[Receipt] = (),
    max_runs: int = 1,
    ended: bool = False,
) -> History:
    """Raise AssertionError for the first invariant that does not hold; return what was read.

    ``ended``: every run must have come to an end.
    """
    history = await History.read(store)
    done = list(effects)
    _chain(history)
    _acknowledged(history, receipts)
    _one_run(history)
    for run in history.runs.values():
        _moves(history, run)
        assert not ended or run.state not in LIVE, f"run {run.id} never ended: {run.state}, {run.reason}"
    _licences(history)
    _effects(history, done)
    _single(history, done)
    _alone(history, max_runs)
    _permitted(history)
    return history


def _chain(history: History) -> None:
    """I10: the audit verifies from its first record to its last."""
    verification = audit.verify(history.records)
    assert verification.ok, verification.message


def _acknowledged(history: History, receipts: Iterable[Receipt]) -> None:
    """I1: what was acknowledged is there."""
    accepted = {b["detail"]["delivery"] for b in history.bodies if b["event"] == "delivery.accepted"}
    for receipt in receipts:
        assert receipt.delivery_id in accepted, f"delivery {receipt.delivery_id} was acknowledged and is lost"
        for run_id in receipt.runs:
            assert run_id in history.runs, f"run {run_id} was acknowledged and is lost"


def _one_run(history: History) -> None:
    """I2: at most one run for a rule and an incident."""
    runs = [run for run in history.runs.values() if run.kind is Kind.REMEDY]
    many = [key for key, n in Counter((r.incident_id, r.rule) for r in runs).items() if n > 1]
    assert not many, f"more than one run for {many}"


_CLAIMS = {"run.started": "queued", "run.resumed": "held", "run.recovered": "running"}


def _moves(history: History, run: Run) -> None:
    """I9: the audit alone tells every state the run was in, in moves that exist, each with its reason."""
    state = ""
    for body in history.of(run.id):
        event, detail = body["event"], body["detail"]
        where = f"run {run.id}, record {body['sequence']} ({event})"
        if event == "run.queued" and not state:
            state = "queued"
        elif event in ("change.in_force", "escalation.begun") and not state:
            state = detail["state"]
        elif event in _CLAIMS:
            assert state == _CLAIMS[event], f"{where}: claimed from {state}"
            state = "running"
        elif event == "approval.requested":
            assert state == "running", f"{where}: asked while {state}"
            state = "held"
        elif event == "run.retry_requested":
            assert state == detail["was"], f"{where}: says it was {detail['was']}, but it was {state}"
            assert (State(state), State.QUEUED) in MOVES, f"{where}: tried again from {state}"
            state = "queued"
        elif event == "approval.rejected":
            assert state == "held", f"{where}: rejected while {state}"
            state = detail["state"]
        elif event in ("effect.intent", "effect.outcome"):
            assert state == "running", f"{where}: acts while {state}"
        elif event.startswith("run."):
            to = event.removeprefix("run.")
            assert detail["was"] == state, f"{where}: says it was {detail['was']}, but it was {state}"
            assert (State(state), State(to)) in MOVES, f"{where}: no move from {state} to {to}"
            assert detail["reason"], f"{where}: no reason"
            assert detail["message"], f"{where}: no message"
            state = to
    assert state == run.state.value, f"run {run.id} is {run.state}, and its audit ends with {state}"
    assert run.reason, f"run {run.id} is {run.state} for no reason"


def _licences(history: History) -> None:
    """I3, I10: every licence has one intent before it and, once its run has ended, one outcome after it."""
    intents: dict[tuple[str, int, int], int] = {}
    outcomes: dict[str, list[int]] = defaultdict(list)
    for body in history.bodies:
        if body["event"] == "effect.intent":
            key = (body["run_id"], body["detail"]["step"], body["detail"]["attempt"])
            assert key not in intents, f"two intents of {key}"
            intents[key] = body["sequence"]
        elif body["event"] == "effect.outcome":
            outcomes[body["detail"]["effect"]].append(body["sequence"])
    keys = [(row.run_id, row.step, row.attempt) for row in history.rows]
    assert sorted(keys) == sorted(intents), "licences and intents differ"
    for row in history.rows:
        told, key = outcomes[row.id], (row.run_id, row.step, row.attempt)
        if row.state == "intent":
            assert not told, f"{key}: an outcome was recorded and the licence does not know it"
            state = history.runs[row.run_id].state
            assert state in LIVE, f"{key}: the run is {state}, and nobody said what became of its licence"
        else:
            assert len(told) == 1, f"{key}: {len(told)} outcomes"
            assert told[0] > intents[key], f"{key}: the outcome stands before the intent"


def _effects(history: History, effects: Sequence[Effect]) -> None:
    """I3: nothing took place without a licence of its own, committed before."""
    rows = {(row.run_id, row.step, row.attempt): row for row in history.rows}
    used: set[tuple[str, int, int]] = set()
    for effect in effects:
        number = _number(history, effect)
        attempts = [effect.attempt] if effect.attempt else [a for r, s, a in rows if (r, s) == (effect.run, number)]
        free = [a for a in attempts if (effect.run, number, a) in rows and (effect.run, number, a) not in used]
        assert free, f"{effect} took place without a licence"
        # Where the outside cannot tell which try it was, it was the last one that was licensed before it.
        before = [a for a in free if rows[effect.run, number, a].licensed_at <= effect.begun + 0.001]
        key = (effect.run, number, max(before, default=min(free)))
        used.add(key)
        assert rows[key].licensed_at <= effect.begun + 0.001, f"{effect} began before its licence"
        if rows[key].state == "failed":
            raise AssertionError(f"{effect} took place, and the record says that it certainly did not")
    told = {effect.target for effect in effects}
    for row in history.rows:
        if row.state == "done" and row.target in told and row.effect != "keyed":
            key = (row.run_id, row.step, row.attempt)
            assert key in used, f"{key}: the record says that it was done, and it was not"


def _number(history: History, effect: Effect) -> int:
    ids = [step["id"] for step in history.runs[effect.run].progress.get("steps", ())]
    return ids.index(effect.step) if effect.step in ids else int(effect.step.removeprefix("step"))


def _single(history: History, effects: Sequence[Effect]) -> None:
    """I4: what must not be doubled was not doubled, and an unknown ``once`` is never tried again."""
    for key, count in Counter(
        (e.run, e.step) for e in effects if e.kind in (action.Effect.ONCE, action.Effect.KEYED)
    ).items():
        assert count == 1, f"{key} took place {count} times"
    for row in history.rows:
        if row.effect == "once" and row.state == "unknown":
            # By the store's clock: identifiers come from hosts, whose clocks differ.
            # What puts things in order is not the step again.
            later = [
                r for r in history.rows
                if r.run_id == row.run_id and r.licensed_at > row.licensed_at
                and (r.run_id, r.step, r.attempt) not in history.closing
            ]  # fmt: skip
            assert not later, f"{row.run_id} acted again after an unknown outcome"
            assert history.runs[row.run_id].state in (
                State.NEEDS_HUMAN, State.CANCELLED, State.SUCCEEDED, State.FAILED,
            )  # fmt: skip


def _alone(history: History, max_runs: int) -> None:
    """I5: at no time more runs than allowed act on one subject."""
    by_target: dict[str, list[EffectRow]] = defaultdict(list)
    for row in history.rows:
        by_target[row.target].append(row)
    for target, rows in by_target.items():
        for row in rows:
            others = {
                other.run_id
                for other in rows
                if other.run_id != row.run_id
                and (other.subject == row.subject or not other.subject or not row.subject)
                and other.licensed_at <= row.licensed_at < (other.finished_at or float("inf"))
                # In virtual time one may end in the very instant in which the next one begins.
                and other.licensed_at < (row.finished_at or float("inf"))
            }
            assert len(others) < max_runs, f"{row.run_id} and {others} acted on {target} {row.subject} at once"


def _permitted(history: History) -> None:
    """I8: no intent while a pause is in force, in observe mode, after the run's end, or without the yes it needs."""
    paused: dict[str, tuple[float, float | None]] = {}
    asked: dict[str, set[tuple[int, str]]] = {}
    granted: set[tuple[str, int, str]] = set()
    for body in history.bodies:
        event, detail, run_id = body["event"], body["detail"], body["run_id"]
        if event == "pause.engaged":
            paused[detail["scope"]] = (body["at"], detail["until"])
        elif event == "pause.released":
            paused.pop(detail["scope"])
        elif event == "approval.requested":
            asked[run_id] = {(change["step"], change["digest"]) for change in detail["changes"]}
        elif event == "approval.granted" and detail["granted"] >= detail["needed"]:
            granted |= {(run_id, step, digest) for step, digest in asked[run_id]}
        elif event == "effect.intent":
            targets = [f"target:{name}" for name in history.runs[run_id].targets]
            # The kill switch stops what acts on systems, and never a call for help.
            silenced = history.runs[run_id].kind is not Kind.ESCALATION
            for scope in ("global", f"rule:{body['rule']}", *targets) if silenced else ():
                until = paused[scope][1] if scope in paused else 0.0
                assert until is not None and until <= body["at"], f"{run_id} acted while {scope} is paused"
            assert detail["mode"] != "observe", f"{run_id} acted in observe mode"
            if detail["mode"] == "approve" and not detail.get("closing"):
                assert (run_id, detail["step"], detail["digest"]) in granted, f"{run_id} acted without a yes"
