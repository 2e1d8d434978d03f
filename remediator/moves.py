"""The moves of an advance: the run as it is after its last commit, and the only ways to write what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol

import structlog

from remediator.action import ActionContext
from remediator.audit import Entry
from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.ids import Ids
from remediator.metrics import Metrics
from remediator.rule import Step
from remediator.run import Kind, Run, State
from remediator.store import Approval, Claim, Store
from remediator.world import World

_log = structlog.get_logger("remediator.engine")

FAR = 4102444800.0
"""2100-01-01: the wake-up of a run that only a person or an event wakes."""
RECHECK = 15.0
"""When a hold has no known end, it is looked at again after this many seconds."""


class Stop(Exception):
    """The advance is over: the run was moved, and there is nothing more to do now."""


class Over(Exception):
    """The remedies end here for now, and something must be put in order before anything else is done."""


class Untidy(Exception):
    """What had to be put in order could not be. ``to`` is where a run would have gone that acted."""

    def __init__(self, to: State, reason: str, message: str) -> None:
        super().__init__(message)
        self.to = to
        self.reason = reason
        self.message = message


@dataclass(slots=True)
class Lease:
    """What an advance and its worker share: until when an effect may begin, and whether one is under way.

    ``deadline`` is on the monotonic clock. While ``acting``, only this advance knows what is happening outside.
    """

    deadline: float
    acting: bool = False


class Ending(NamedTuple):
    """Where a run goes when nothing is left to do."""

    to: State
    reason: str
    message: str
    wake_at: float | None = None


class Means(Protocol):
    """What every advance works with; the engine is it."""

    store: Store
    clock: Clock
    ids: Ids
    metrics: Metrics
    draining: bool

    def world(self) -> World:
        """Rules, targets and settings in force."""
        ...


class Moves:
    """One advance of one run; holds the run as it is after its last committed move."""

    def __init__(self, engine: Means, claim: Claim, lease: Lease) -> None:
        self.engine = engine
        self.store = engine.store
        self.clock = engine.clock
        self.world = engine.world()
        self.run = claim.run
        self.incident = claim.incident
        self.effects = list(claim.effects)
        self.lease = lease
        self._claimed_at, self._claimed = claim.run.updated_at, engine.clock.monotonic()
        self.progress: dict[str, Any] = {**claim.run.progress}
        if not claim.incident.open:
            # Whoever knows of the end is not woken by it again while it waits for something else.
            self.progress["ended"] = True
        self.script: list[Step] = []
        """The steps by index: those of the rule, then those that were added to put something back."""
        self.labels = claim.incident.common_labels
        self.verdicts: list[dict[str, Any]] = []

    def now(self) -> float:
        """The store's time: when it gave the claim, and what has passed since.

        Every owner on every host counts by the same clock, and none that is wrong or set changes a decision.
        """
        return self._claimed_at + (self.clock.monotonic() - self._claimed)

    @property
    def acted(self) -> bool:
        """Whether any licence of this run was used, as far as is known."""
        return any(effect.state != "failed" for effect in self.effects)

    def step_id(self, index: int) -> str:
        """The id of the step at ``index``: its own, or ``step<index>``."""
        return self.script[index].id or f"step{index}"

    def step(self, index: int) -> dict[str, Any]:
        """The progress of a step; a new one where there is none yet."""
        steps = self.progress.setdefault("steps", [])
        for number in range(len(steps), index + 1):
            step = self.script[number]
            steps.append(
                {
                    "id": self.step_id(number),
                    "uses": step.uses or "wait",
                    "target": step.target,
                    "state": "waiting",
                    **self.place_of(number),
                }
            )
        found: dict[str, Any] = steps[index]
        return found

    def place_of(self, index: int) -> dict[str, Any]:
        """Where the step at ``index`` stands in its rule, as it is kept with its progress."""
        return {}

    def set_step(self, index: int, **values: Any) -> None:
        """Put values into the progress of a step, without touching what was committed before."""
        self.step(index)
        steps = [*self.progress["steps"]]
        steps[index] = {**steps[index], **values}
        self.progress = {**self.progress, "steps": steps}

    def context(self, index: int, attempt: int = 0) -> ActionContext:
        """What the action of a step may know now; ``attempt`` 0 stands for the next one."""
        return ActionContext(
            run_id=self.run.id,
            step=self.step_id(index),
            attempt=attempt or self.attempt(index),
            key=f"{self.run.id}-{index}",
            clock=self.clock,
            deadline=self.lease.deadline,
            ledger=self.store,
        )

    def attempt(self, index: int) -> int:
        """The number of the next licence of a step, from 1."""
        return 1 + sum(effect.step == index for effect in self.effects)

    def entry(self, event: str, detail: Mapping[str, Any]) -> Entry:
        """An audit entry of this run."""
        return Entry(
            event=event,
            actor="remediator",
            run_id=self.run.id,
            rule=self.run.rule,
            rule_digest=self.run.rule_digest,
            detail=detail,
        )

    def _note(self) -> None:
        if self.verdicts:
            self.progress = {**self.progress, "verdicts": self.verdicts}

    def follow(self, to: State, reason: str, message: str) -> Sequence[Run]:
        """The runs that follow when this one moves there."""
        return ()

    def question(self, approval: Approval) -> Sequence[Run]:
        """The runs that follow when people are asked."""
        return ()

    async def save(
        self, to: State, reason: str, message: str, *, wake_at: float | None = None
    ) -> None:
        """Move the run and record it, in one commit with what follows from it."""
        self._note()
        now = self.now()
        moved = self.run.move(to, reason, message, now=now, wake_at=wake_at, progress=self.progress)
        detail: dict[str, Any] = {"reason": reason, "message": message, "was": self.run.state.value}
        if to in (State.DENIED, State.HELD, State.OBSERVED, State.NEEDS_HUMAN, State.FAILED):
            # A no must be checkable from the record alone: what was seen, and what every guard said.
            detail |= {"evidence": self.progress.get("evidence", {}), "verdicts": self.verdicts}
            detail["steps"] = self.progress.get("steps", [])
        crashpoint("engine.before_save")
        entry = self.entry(f"run.{to.value}", detail)
        self.run = await self.store.save(moved, entry, follow=self.follow(to, reason, message))
        crashpoint("engine.after_save")
        _log.info("run moved", state=to.value, reason=reason, message=message)
        self.count_end()

    def count_end(self) -> None:
        """Tell the metrics, if the run has ended."""
        if not self.run.live and self.run.kind is Kind.REMEDY:
            self.engine.metrics.runs_total.labels(self.run.rule, self.run.state.value).inc()
            self.engine.metrics.run_duration_seconds.observe(max(0.0, self.run.updated_at - self.run.due_at))

    async def end(self, to: State, reason: str, message: str) -> NoReturn:
        """Move the run and end this advance."""
        await self.save(to, reason, message)
        raise Stop

    async def stop(self, to: State, reason: str, message: str) -> NoReturn:
        """The run ends here, once everything is in order; a line that can put things in order does so first."""
        await self.end(to, reason, message)

    def as_ended(
        self, to: State, reason: str, message: str, wake_at: float | None = None
    ) -> tuple[State, str, str, float | None]:
        """Where the run goes instead of ``to`` while there is something to put in order first."""
        return to, reason, message, wake_at

    def tidy(self, end: Ending) -> None:
        """The run was moved nowhere although it would have ended: say what happens now, by raising it."""
        raise Over

    def temporary(self, index: int, subject: str) -> Sequence[Run]:
        """The run that puts back what the step at ``index`` changed on ``subject``, if the change is temporary."""
        return ()

    def known(self) -> dict[str, Any]:
        """What expressions and placeholders can see now."""
        raise NotImplementedError

    def after(self, index: int) -> Ending | None:
        """Where the run goes now that the step at ``index`` is done; None: it goes on."""
        return None

    async def hold(self, reason: str, message: str, until: float | None) -> NoReturn:
        """Hold the run until ``until``, or until what holds it is gone; then end this advance."""
        now = self.now()
        wake = until if until is not None else FAR if reason == "paused" else now + RECHECK
        await self.save(State.HELD, reason, message, wake_at=max(wake, now + 0.05))
        raise Stop
