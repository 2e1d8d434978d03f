"""Sees every transaction of the one true store, writes the trace, and checks at once what must hold at every moment.

It asks the tables by itself and counts limits from its own memory, so that a mistake of the store is not repeated here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from remediator.arrival import Arrival, Receipt
from remediator.clock import parse_duration
from remediator.engine import FAR
from remediator.rule import Mode
from remediator.run import LIVE, Kind, Run, State
from remediator.store import Licence, LicenceRequest, Refusal
from remediator.stores.sqlite import SqliteStore
from tests.simulation.loop import EPOCH, Process, SimulatedLoop
from tests.simulation.rules import MAX_RUNS, by_digest

_SLOWEST = 900.0
"""How long a transaction may be on its way, at most, with the slowest store and a stopped process."""
_LONGEST_WAIT = 600.0
"""No rule of the simulation makes a run wait longer, unless it waits for a person (FAR)."""
READS = frozenset((
    "ping", "rule_body", "within", "next_due", "run", "runs", "effects", "incident", "incidents", "incidents_of",
    "latest", "approval", "pauses", "audit", "audit_stream", "counts", "backlog", "on_wake", "open", "close",
))  # fmt: skip
"""Verbs that change nothing. After every other one, also one that the port gets later, everything is looked at."""


class Bound(NamedTuple):
    """A limit as the rule's text says it."""

    scope: str
    since_end: bool
    runs: int
    window: float


class Granted(NamedTuple):
    """A licence, as it was given."""

    at: float
    run: str
    rule: str
    incident_key: str
    target: str
    closing: bool


class Committed(NamedTuple):
    """A delivery that was committed."""

    at: float
    arrival: Arrival
    receipt: Receipt


class Witness:
    """``lines`` are kept only when somebody wants to read them."""

    def __init__(self, loop: SimulatedLoop, truth: SqliteStore, *, verbose: bool) -> None:
        self._loop = loop
        self.truth = truth
        self.lines: list[str] | None = [] if verbose else None
        self._digest = hashlib.sha256()
        self.verbs: Counter[str] = Counter()
        self.granted: list[Granted] = []
        self.ended: dict[str, float] = {}
        self.promised: dict[str, float] = {}
        """Until when the store promised each run to the one who has it."""
        self.newest: dict[str, str] = {}
        """The newest life of its problem when the way back of a change was claimed the last time, by run."""
        self.waits: dict[tuple[str, int], float] = {}
        """Until when each step waits, as it was said first."""
        self.deliveries: list[Committed] = []

    @property
    def trace(self) -> str:
        """SHA-256 over everything that happened, in order."""
        return self._digest.hexdigest()

    def tell(self, who: object, what: str, *details: object) -> None:
        """Something happened."""
        line = f"{self._loop.time():.6f} {who} {what} {details}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    async def carry(
        self, process: Process, verb: str, operation: Callable[..., Awaitable[Any]], args: Any, more: Any
    ) -> Any:
        """Do one transaction of ``process`` and look at what it left. Nothing else happens meanwhile."""
        self.verbs[verb] += 1
        try:
            result = await operation(*args, **more)
        except Exception as error:
            self.tell(process, verb, type(error).__name__, str(error))
            raise
        self.tell(process, verb, _brief(result))
        try:
            self._check(verb, args, result)
        except AssertionError as error:
            # Whoever asked would take it for a bug of its own and go on: the whole simulation ends here.
            self._loop.failures.append(str(error))
        return result

    def _check(self, verb: str, args: Any, result: Any) -> None:
        if verb == "licence" and isinstance(result, Licence):
            self._licensed(args[0])
        elif verb == "licence" and isinstance(result, Refusal):
            self._refused(args[0], result)
        elif verb == "intake":
            self.deliveries.append(Committed(self._loop.time(), args[0], result))
        elif verb not in READS and isinstance(result, Run):
            self._timely(result)
        self._leases(verb, args, result)
        if verb not in READS:
            self._look()

    def _leases(self, verb: str, args: Any, result: Any) -> None:
        """I3: nobody is given a run before the time is over that was promised to the one who has it."""
        now = self._loop.time()
        if verb == "claim":
            _, lease, _ = args
            for run, _, _ in result:
                promised = self.promised.get(run.id, now)
                assert promised <= now, f"I3: {run.id} was taken {promised - now} s before the end of its lease"
                self.promised[run.id] = now + lease
                if run.kind is Kind.REVERT:
                    ((self.newest[run.id],),) = self._rows(
                        "SELECT id FROM incident WHERE key = (SELECT key FROM incident WHERE id = ?)"
                        " ORDER BY ended_at IS NOT NULL, ended_at DESC LIMIT 1",
                        run.incident_id,
                    )
        elif verb == "renew":
            runs, lease = args
            self.promised.update({run.id: now + lease for run in runs if run.id not in result})
        elif isinstance(result, Run) and not result.lease_until:
            self.promised.pop(result.id, None)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        connection = self.truth._connection
        assert connection is not None
        return connection.execute(sql, values).fetchall()

    def _look(self) -> None:
        """I5, and when each run ended."""
        running: list[tuple[str, list[tuple[str, str, int]]]] = []
        for run_id, state, locks in self._rows("SELECT id, state, locks FROM run"):
            if state == "running":
                running.append((run_id, json.loads(locks)))
            elif State(state) not in LIVE and run_id not in self.ended:
                self.ended[run_id] = EPOCH + self._loop.time()
        for target, subject in {(target, subject) for _, locks in running for target, subject, _ in locks}:
            # Whoever has the whole target has each of its subjects.
            on_it = {
                run_id
                for run_id, locks in running
                for their_target, theirs, _ in locks
                if their_target == target and theirs in ("", subject)
            }
            assert len(on_it) <= MAX_RUNS[target], f"I5: {on_it} run on {target} {subject} at once"

    def begins(self, run_id: str, step: str, attempt: int) -> None:
        """I3: the first byte of an effect leaves. Its licence is open, and nobody has taken the run over."""
        found = self._rows(
            "SELECT e.state, e.epoch, r.epoch, e.step, r.progress FROM effect e JOIN run r ON r.id = e.run_id"
            " WHERE e.run_id = ? AND e.attempt = ?",
            run_id, attempt,
        )  # fmt: skip
        rows = [row for row in found if json.loads(row[4])["steps"][row[3]]["id"] == step]
        what = f"{run_id}, {step}, attempt {attempt}"
        if not rows:
            self._loop.failures.append(f"I3: {what} begins without a licence")
        elif rows[0][0] != "intent":
            self._loop.failures.append(f"I3: {what} begins, and its licence is {rows[0][0]} already")
        elif rows[0][1] != rows[0][2]:
            self._loop.failures.append(f"R10: {what} begins under epoch {rows[0][1]}, and the run is at {rows[0][2]}")

    def _timely(self, run: Run) -> None:
        """I11: no host's clock decides when a run goes on, and none dates a move."""
        now = EPOCH + self._loop.time()
        assert abs(run.updated_at - now) < _SLOWEST, f"I11: {run.id} moved at {now}, and says {run.updated_at}"
        later = run.live and run.wake_at != FAR
        wait = run.wake_at - now
        assert not later or wait < _LONGEST_WAIT, f"I11: {run.id} waits {wait} s: {run.reason}"
        for index, step in enumerate(run.progress.get("steps", ())):
            if "until" in step:
                first = self.waits.setdefault((run.id, index), step["until"])
                assert step["until"] == first, f"{run.id}: step {index} waits until {step['until']}, and not {first}"
        if run.state is State.EXPIRED and run.reason == "max_age":
            late, max_age = now - run.due_at, by_digest()[run.rule_digest].max_age
            assert late > max_age - _SLOWEST, f"I11: {run.id} expired {late} s after it was due"

    def _licensed(self, request: LicenceRequest) -> None:
        """I3, I6, I8, at the very moment of a licence."""
        now, run = EPOCH + self._loop.time(), request.run
        ((epoch, rule, digest, ended_at),) = self._rows(
            "SELECT r.epoch, r.rule, r.rule_digest, i.ended_at FROM run r JOIN incident i ON i.id = r.incident_id"
            " WHERE r.id = ?",
            run.id,
        )
        assert epoch == run.epoch, f"I3: {run.id} was licensed under epoch {run.epoch}, and its epoch is {epoch}"
        assert ended_at is None or request.closing, f"I8: {run.id} was licensed although its incident has ended"
        scopes = {"global", f"rule:{rule}", f"target:{request.target}"}
        for scope, until in self._rows("SELECT scope, until FROM pause"):
            paused = scope in scopes and (until is None or until > now)
            assert not paused, f"I8: {run.id} was licensed although {scope} is paused"
        least = Mode(run.mode).at_most(by_digest()[digest].mode)
        assert least == run.mode != "observe", f"I8: {run.id} was licensed in mode {run.mode}"
        if run.mode == "approve" and not request.closing:
            self._approved(request, now)
        for other, subject in self._rows(
            "SELECT run_id, subject FROM effect WHERE target = ? AND state = 'intent' AND run_id <> ?",
            request.target, run.id,
        ):  # fmt: skip
            same = subject == request.subject or not subject or not request.subject
            assert not same or MAX_RUNS[request.target] > 1, f"I5: {run.id} acts while {other} may still do so"
        for bound in () if request.closing else _bounds(digest):
            count = len({other.run for other in self._within(bound, run.id, rule, request, now)})
            assert count < bound.runs, f"I6: {run.id} was licensed over {bound}: {count} others"
        if run.kind is Kind.REVERT:
            self._safe(run, now)
        self.granted.append(Granted(now, run.id, rule, request.incident_key, request.target, request.closing))

    def _safe(self, run: Run, now: float) -> None:
        """What was lent goes back when the newest life of its problem is over for so long, or its time is."""
        change = run.progress["change"]
        earlier = self._rows("SELECT 1 FROM effect WHERE run_id = ? AND state <> 'failed'", run.id)
        if "asked" in run.progress or now >= change["deadline"] or len(earlier) > 1:
            return
        ((ended_at,),) = self._rows("SELECT ended_at FROM incident WHERE id = ?", self.newest[run.id])
        assert ended_at is not None, f"{run.id} puts back {change['id']}, and the alert fires"
        stayed = now - ended_at
        assert stayed >= change["settle"], f"{run.id} puts back {change['id']} {stayed} s after the alert's end"

    def _refused(self, request: LicenceRequest, refusal: Refusal) -> None:
        """I6 the other way round: nobody is held by a limit that is not used up, and none holds what cleans up."""
        now, run = EPOCH + self._loop.time(), request.run
        assert not request.closing or refusal.reason == "paused", f"{run.id} may not clean up: {refusal}"
        if refusal.reason in ("cooldown", "rate_limit"):
            ((rule, digest),) = self._rows("SELECT rule, rule_digest FROM run WHERE id = ?", run.id)
            counts = [
                (len({other.run for other in self._within(bound, run.id, rule, request, now)}), bound)
                for bound in _bounds(digest)
            ]
            used_up = any(count >= bound.runs for count, bound in counts)
            assert used_up, f"I6: {run.id} was refused ({refusal.message}) by {counts}"

    def _approved(self, request: LicenceRequest, now: float) -> None:
        rows = self._rows(
            "SELECT a.id, a.changes, a.needed, a.expires_at, count(v.actor) FROM approval a"
            " JOIN approval_vote v ON v.approval_id = a.id AND v.yes = 1 WHERE a.run_id = ? GROUP BY a.id",
            request.run.id,
        )
        digest = {**request.entry.detail}["digest"]
        for _, changes, needed, expires_at, yes in rows:
            shown = {(change["step"], change["digest"]) for change in json.loads(changes)}
            if yes >= needed and (expires_at > now or request.under_way) and (request.step, digest) in shown:
                return
        raise AssertionError(f"I8: {request.run.id} was licensed, and nobody granted the change {digest}")

    def _within(
        self, bound: Bound, run_id: str, rule: str, request: LicenceRequest, now: float
    ) -> Iterator[Granted]:
        for other in self.granted:
            same = {
                "rule": other.rule == rule,
                "incident": other.incident_key == request.incident_key,
                "target": other.target == request.target,
                "global": True,
            }[bound.scope]
            at = self.ended.get(other.run, now) if bound.since_end else other.at
            if same and not other.closing and other.run != run_id and at > now - bound.window:
                yield other


def _bounds(digest: str) -> list[Bound]:
    found = []
    for entry in by_digest()[digest].guards:
        if "cooldown" in entry:
            said = entry["cooldown"] if isinstance(entry["cooldown"], dict) else {"for": entry["cooldown"]}
            found.append(Bound(said.get("scope", "rule"), True, 1, _seconds(said["for"])))
        if "rate_limit" in entry:
            said = entry["rate_limit"]
            found.append(Bound(said.get("scope", "rule"), False, said["runs"], _seconds(said["per"])))
    return found


def _seconds(value: Any) -> float:
    return parse_duration(value) if isinstance(value, str) else float(value)


def _brief(result: Any) -> str:
    """What of a result goes into the trace: everything that tells one history from another, and no more."""
    if isinstance(result, (list, tuple)) and not hasattr(result, "_fields"):
        return f"[{', '.join(_brief(each) for each in result)}]"
    run = getattr(result, "run", result)
    state = getattr(run, "state", None)
    if state is None:
        return repr(sorted(result)) if isinstance(result, (set, frozenset)) else repr(result)
    return f"{run.id} {state} {getattr(run, 'reason', '')} v{getattr(run, 'version', '')} e{getattr(run, 'epoch', '')}"
