"""What must be true of every closed loop: what did not help is undone, final steps run, what was lent goes back.

One checker for the model of runs and for the simulation. It holds the record of runs, licences and the audit against
every value that was written outside, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from remediator.expression import UNTIL, Expression
from remediator.rule import Rule
from remediator.run import LIVE, Kind, Run, State
from remediator.store import EffectRow

if TYPE_CHECKING:
    from remediator.incident import Incident
    from remediator.store import Store
    from tests.invariants import History

UNTIDY = frozenset(("poison", "bug", "mode", "plan"))
"""Ends after which nothing more was safe to do, or allowed."""
NO_CURE = frozenset(("superseded", "unknown_verification"))
"""Ends in failure that say nothing about the remedy."""
_MOMENT = 0.1
"""Within so many seconds, what happens one after the other counts as at once."""


class Write(NamedTuple):
    """A value that was written outside; ``by`` is whose licence it was (run, id of the step, attempt), or nobody's."""

    target: str
    thing: str
    at: float
    was: int
    now: int
    by: tuple[str, str, int] | None = None


class Told(NamedTuple):
    """A run with everything that is told of it."""

    run: Run
    rule: Rule
    rows: Sequence[EffectRow]
    """Its licences, oldest first, without those that certainly had no effect."""
    reasons: frozenset[str]
    closing: frozenset[tuple[int, int]]
    """Step and attempt of the licences that only put something in order."""

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        """The progress of the steps."""
        found: Sequence[Mapping[str, Any]] = self.run.progress.get("steps", ())
        return found

    def done(self, span: range) -> list[EffectRow]:
        """What the remedy with these steps has carried out."""
        return [row for row in self.rows if row.step in span and not self.closes(row)]

    def closes(self, row: EffectRow) -> bool:
        """Whether a licence only put something in order."""
        return (row.step, row.attempt) in self.closing

    def undo_of(self, index: int) -> Mapping[str, Any] | None:
        """The progress of the step that undoes the one at ``index``."""
        at = self.steps[index].get("undo")
        return None if at is None else self.steps[at]


def check(history: History, rules: Mapping[str, Rule], writes: Sequence[Write]) -> None:
    """Raise AssertionError for the first thing that is not in order. ``rules`` are all there ever were, by digest."""
    rows: dict[str, list[EffectRow]] = {}
    for row in sorted(history.rows, key=lambda row: row.licensed_at):
        if row.state != "failed":
            rows.setdefault(row.run_id, []).append(row)
    told = {
        run.id: Told(
            run,
            rules[run.rule_digest],
            rows.get(run.id, ()),
            frozenset(str(body["detail"].get("reason", "")) for body in history.of(run.id)),
            frozenset((step, attempt) for run_id, step, attempt in history.closing if run_id == run.id),
        )
        for run in history.runs.values()
    }
    backs = {run.about: run for run in history.runs.values() if run.kind is Kind.REVERT}
    for each in told.values():
        if each.run.kind is Kind.REMEDY:
            _final(each)
            _lent(each, backs)
            _undone(each)
            _one_after_the_other(each)
            _seen_anew(each)
    _compared(told, writes)
    _explained(told, backs, writes)


def _final(it: Told) -> None:
    """Final steps were tried wherever a remedy had acted."""
    acted = any(not it.closes(row) for row in it.rows)
    if it.run.state in LIVE or it.reasons & UNTIDY or not acted:
        return
    for index in it.rule.spans[-1]:
        state = it.steps[index]["state"] if index < len(it.steps) else "missing"
        where = f"{it.run.id} {it.run.reason}: final step {index}"
        assert state in ("done", "failed", "unknown"), f"{where} is {state}"


def _lent(it: Told, backs: Mapping[str, Run]) -> None:
    """Every temporary change has, or had, its way back; or is itself what an earlier one's way back is there for."""
    for row in it.rows:
        lent = row.step < len(it.rule.script) and it.rule.script[row.step].lease is not None
        if lent and row.state == "done" and it.steps[row.step].get("returns"):
            known = [(b.progress["change"]["target"], b.progress["change"]["change"]["before"]) for b in backs.values()]
            step = it.steps[row.step]
            where = f"{it.run.id}: step {row.step} is said to go back, and nothing was lent"
            assert (step["target"], step["change"]["after"]) in known, where
        elif lent and row.state == "done":
            assert f"{it.run.id}/{row.step}" in backs, f"{it.run.id}: step {row.step} is lent, and has no way back"


def _trials(it: Told) -> Iterator[tuple[int, range, str]]:
    """Each remedy: its number, its steps, and how it is called."""
    known = it.run.progress.get("remedies", ())
    for number, span in enumerate(it.rule.spans[:-1]):
        state = known[number]["state"] if number < len(known) else "waiting"
        if len(it.rule.tries) == 1:
            unknown = it.run.reason == "unknown_verification"
            no = it.run.state in (State.FAILED, State.DENIED) and it.run.reason not in NO_CURE
            state = "unknown" if unknown else "failed" if no else "other"
        elif number < len(known) and known[number].get("reason") in NO_CURE:
            state = "unknown"
        yield number, span, state


def _reversible(it: Told, span: range) -> list[int]:
    return sorted({row.step for row in it.done(span) if row.state == "done" and "inverse" in it.steps[row.step]})


def _undone(it: Told) -> None:
    """What did not help was undone, or the record says why it could not be; what may have helped was left alone."""
    for number, span, state in _trials(it):
        where = f"{it.run.id}, {it.run.reason}, remedy {number} ({state})"
        for index in _reversible(it, span):
            undo = it.undo_of(index)
            if state == "unknown" or it.rule.tries[number].keep:
                assert undo is None, f"{where}: step {index} was undone"
            elif state in ("ineffective", "failed", "denied") and not it.reasons & UNTIDY and it.run.state not in LIVE:
                tried = undo is not None and undo["state"] in ("failed", "unknown")
                assert it.steps[index]["state"] == "undone" or tried, f"{where}: step {index} was not undone"


def _one_after_the_other(it: Told) -> None:
    """No remedy before the one before it was seen not to help, and was undone, or left to somebody else's value."""
    trials = list(_trials(it))
    for number, span, _ in trials:
        begun = min((row.licensed_at for row in it.done(span)), default=None)
        if begun is None:
            continue
        for before, earlier, state in trials[:number]:
            where = f"{it.run.id}: remedy {number} began after {before}"
            assert state in ("skipped", "ineffective", "failed"), f"{where}, which is {state}"
            for index in () if it.rule.tries[before].keep else _reversible(it, earlier):
                undo = it.undo_of(index)
                assert undo is not None, f"{where}, whose step {index} was not undone"
                left = undo["state"] == "failed" and undo["outcome"].get("reason") == "changed"
                assert undo["state"] == "done" or left, f"{where}, whose step {index} could not be undone"
                at = it.steps[index]["undo"]
                late = [row for row in it.rows if row.step == at and (row.finished_at or begun) > begun]
                assert not late, f"{where}, whose step {index} was still being undone"


def _seen_anew(it: Told) -> None:
    """What verified a remedy was seen after it had acted."""
    number = it.run.progress.get("at", 0)
    if it.run.reason != "verified" or number >= len(it.rule.tries):
        return
    verify = it.rule.tries[number].verify
    assert verify is not None, f"{it.run.id}: verified by nothing"
    probes = [probe.id for probe in it.rule.probes]
    steps = [it.rule.step_id(index) for index in range(len(it.rule.script))]
    if not Expression.compile(verify.until, UNTIL, probes=probes, steps=steps).looks:
        return
    acted = max((row.finished_at or 0.0 for row in it.done(it.rule.spans[number])), default=0.0)
    for name, seen in it.run.progress["evidence"].items():
        assert seen["at"] >= acted, f"{it.run.id}: {name} was seen at {seen['at']}, and it acted at {acted}"


def _origin(told: Mapping[str, Told], write: Write) -> tuple[Told, int] | None:
    """The run and step that ``write`` undoes or puts back; None for a write that does neither."""
    if write.by is None:
        return None
    it = told[write.by[0]]
    if it.run.kind is Kind.REVERT:
        run_id, _, index = it.run.about.partition("/")
        return told[run_id], int(index)
    undoes = _step(it, write.by[1]).get("undoes")
    return None if undoes is None else (it, int(undoes))


def _step(it: Told, name: str) -> Mapping[str, Any]:
    return next(step for step in it.steps if step["id"] == name)


def _compared(told: Mapping[str, Told], writes: Sequence[Write]) -> None:
    """Nothing was put back over a value that somebody else had set since."""
    for write in writes:
        origin = _origin(told, write)
        if origin is None:
            continue
        it, index = origin
        changes = [row.change for row in it.rows if row.step == index]
        mine = [(change["after"]["n"], change["before"]["n"]) for change in changes]
        assert (write.was, write.now) in mine, f"{write} was put back, and {it.run.id} had made {mine} of it"


def _explained(told: Mapping[str, Told], backs: Mapping[str, Run], writes: Sequence[Write]) -> None:
    """A lent value that is still there is in force, was made permanent, or could not be put back."""
    last = {(write.target, write.thing): write for write in writes}
    for write in last.values():
        if write.by is None or _origin(told, write) is not None:
            continue
        it = told[write.by[0]]
        index = next(number for number, step in enumerate(it.steps) if step["id"] == write.by[1])
        back = backs.get(f"{it.run.id}/{index}")
        if back is not None:
            assert back.reason not in ("reverted", "already_back"), f"{write} is still there, and it is {back.reason}"


def left_to_others(history: History, writes: Sequence[Write]) -> None:
    """What was lent stayed for somebody else's value only, and not for one that was lent later and went back since.

    For targets that allow one run at a time.
    """
    backs = {run.about for run in history.runs.values() if run.kind is Kind.REVERT}
    for run in history.runs.values():
        if run.kind is not Kind.REVERT or run.reason != "not_ours":
            continue
        change, lock = run.progress["change"], run.locks[0]
        found = [
            write for write in writes
            if (write.target, write.thing) == (lock.target, lock.subject) and change["made_at"] < write.at
        ]  # fmt: skip
        steps = {run.id: [step["id"] for step in run.progress.get("steps", ())] for run in history.runs.values()}
        for_good = [
            write for write in found
            if write.by is None
            or (history.runs[write.by[0]].kind is Kind.REMEDY and f"{write.by[0]}/{_index(steps, write)}" not in backs)
        ]  # fmt: skip
        assert for_good, f"{run.about} did not go back, and nobody else has set {lock.subject}: {found}"


def _index(steps: Mapping[str, Sequence[str]], write: Write) -> int:
    return -1 if write.by is None else steps[write.by[0]].index(write.by[1])


async def timely(store: Store, history: History) -> None:
    """What was lent went back no earlier than it was safe, unless a person asked or its time was over.

    For histories in which notices arrive at once and a decision takes no time.
    """
    lives: dict[str, list[Incident]] = {}
    for incident in await store.incidents(limit=1000):
        lives.setdefault(incident.key, []).append(incident)
    for row in history.rows:
        run = history.runs[row.run_id]
        change = run.progress.get("change")
        if run.kind is not Kind.REVERT or change is None or "asked" in run.progress:
            continue
        begun = [each.licensed_at for each in history.rows if each.run_id == run.id]
        if row.licensed_at >= change["deadline"] - _MOMENT or row.licensed_at > min(begun):
            continue
        key = (await store.incident(run.incident_id)).key
        for life in lives[key]:
            told = life.opened_at < row.licensed_at - _MOMENT
            ended = row.licensed_at + 1.0 if life.ended_at is None else life.ended_at
            safe = not told or ended + change["settle"] <= row.licensed_at + _MOMENT
            assert safe, f"{run.about} went back at {row.licensed_at}, and {life.id} lived until {life.ended_at}"
