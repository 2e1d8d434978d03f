"""Advances one run along the straight line: look, may we, what, licence, act, helped.

Every way out of a step is a move of the run, committed with the audit entry that says why. Here is the order in which
things are asked; each room has its own file: moves.py, looking.py, preparing.py, asking.py, and acting.py for what can
happen while acting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from remediator import acting
from remediator.asking import Asking
from remediator.clock import Clock, format_duration
from remediator.crashpoint import crashpoint
from remediator.errors import InputError, Lost, StoreUnavailable
from remediator.guard import GuardContext
from remediator.ids import Ids
from remediator.metrics import Metrics
from remediator.moves import FAR, RECHECK, Lease, Stop
from remediator.planning import Plan, effective_mode
from remediator.preparing import Ready
from remediator.redact import redact
from remediator.rule import Mode, Rule
from remediator.run import State
from remediator.store import Claim, Licence, LicenceRequest, Refusal, Store
from remediator.world import World

_log = structlog.get_logger("remediator.engine")

MAX_TAKEOVERS = 5
"""A run whose owners died this often is not given to another one."""


class Engine:
    """Advances runs. ``world`` is asked once per advance."""

    def __init__(
        self, store: Store, world: Callable[[], World], *, clock: Clock, ids: Ids, metrics: Metrics
    ) -> None:
        self.store = store
        self.world = world
        self.clock = clock
        self.ids = ids
        self.metrics = metrics
        self.draining = False
        """Once true, no licence is asked for any more: runs that would need one are handed back."""

    async def advance(self, claim: Claim, lease: Lease) -> None:
        """Carry a claimed run as far as it can go now.

        Never raises except CancelledError: whatever happens is a move of the run, or is left to the lease.
        """
        line = Line(self, claim, lease)
        with structlog.contextvars.bound_contextvars(run=claim.run.id, rule=claim.run.rule):
            try:
                await line.go()
            except Lost as error:
                _log.warning("the run has another owner now; nothing more is done here", error=str(error))
            except StoreUnavailable as error:
                _log.error("the store is away; the run is taken up again when its lease is over", error=str(error))
            except asyncio.CancelledError:
                await line.hand_back()
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
                # The one place for bugs: nothing is known to be safe, so nothing more is done.
                _log.exception("a bug stopped this run")
                await line.bug(error)


class Ending(NamedTuple):
    """Where a run goes when nothing is left to do."""

    to: State
    reason: str
    message: str
    wake_at: float | None = None


class Line(Asking):
    """The line itself: every room in its order."""

    async def go(self) -> None:
        """Everything in order; ends by Stop, or by raising what the engine handles."""
        crashpoint("worker.after_claim")
        try:
            plan = await self._plan()
            if self.run.state is State.VERIFYING:
                await self._look_again(plan)
            await self._bound_takeovers(plan)
            for effect in self.effects:
                if effect.state == "intent":
                    await acting.recover(self, plan, effect)
            await self._still_wanted(plan)
            await self._not_too_old(plan)
            await self._probe(plan.rule)
            await self._conditions(plan)
            await self._steps(plan)
            await self._finish(plan)
        except Stop:
            return

    async def _plan(self) -> Plan:
        plans = self.world.plans
        plan = plans.get(self.run.rule_digest)
        if plan is not None:
            return plan
        try:
            rule = self.world.rules.get(self.run.rule)
            if rule is None or rule.digest != self.run.rule_digest:
                rule = Rule.from_body(await self.store.rule_body(self.run.rule_digest))
            return plans.make(rule)
        except (InputError, ValueError) as error:
            await self.stop(State.FAILED, "plan", f"the rule this run was planned by cannot be read any more: {error}")

    async def _bound_takeovers(self, plan: Plan) -> None:
        if self.run.tries > MAX_TAKEOVERS:
            message = f"{self.run.tries} owners of this run died; a person must look before it goes on"
            for effect in self.effects:
                if effect.state == "intent":
                    await acting.to_person(self, plan.rule, effect, message, "poison")
            await self.stop(State.NEEDS_HUMAN, "poison", message)

    async def _still_wanted(self, plan: Plan) -> None:
        """R14: still firing, and the rule unchanged. Once a step has acted only the first of them counts."""
        if not self.incident.open:
            if self.acted and self.incident.superseded:
                message = "the alert began again; the new incident has a run of its own"
                await self.stop(State.FAILED, "superseded", message)
            if self.acted:
                await self.stop(State.SUCCEEDED, "resolved", "the alert resolved; no further step is needed")
            await self.stop(State.CANCELLED, "resolved", "the alert resolved before the run began to act")
        if self.acted:
            return
        current = self.world.rules.get(self.run.rule)
        if current is None:
            await self.stop(State.CANCELLED, "rule_removed", "the rule was removed before the run began to act")
        elif current.digest != self.run.rule_digest:
            await self.stop(State.CANCELLED, "rule_changed", "the rule was edited before the run began to act")

    async def _not_too_old(self, plan: Plan) -> None:
        """R14: what was left lying, before it began or half way, is reported and not carried out late."""
        since = max(self.run.due_at, self.run.wake_at, *(effect.licensed_at for effect in self.effects))
        late = self.now() - since
        if late > plan.rule.max_age:
            what = "its last step began" if self.acted else "it was due"
            message = f"{what} {format_duration(late)} ago, and max_age is {format_duration(plan.rule.max_age)}"
            await self.stop(State.EXPIRED, "max_age", message)

    async def _same_world(self) -> None:
        """A reload while this run was being decided on: rules, permissions and modes are asked again from the start."""
        if self.engine.world() is not self.world:
            message = "rules or settings were loaded while it was being decided on; it is decided on again"
            await self.hold("reloaded", message, self.now())

    async def _steps(self, plan: Plan) -> None:
        mode = effective_mode(plan.rule, self.world.mode_max)
        if mode is Mode.OBSERVE and self.acted:
            await self.stop(State.DENIED, "mode", "rules may only observe now; the steps that were left are not done")
        if mode is Mode.OBSERVE:
            await self._observe(plan)
        for index in range(len(plan.rule.steps)):
            if self.step(plan.rule, index)["state"] == "done":
                continue
            if self.step(plan.rule, index)["state"] == "applied":
                await acting.settle(self, plan, await self._ready(plan.rule, index, diff=False))
                continue
            ready = await self._ready(plan.rule, index)
            if ready.change.empty:
                self._already(plan.rule, ready)
                continue
            await acting.same_key(self, ready)
            # Some levers are never pulled without a person, however much the rule is trusted.
            asked = mode.at_most(Mode.APPROVE) if ready.action.needs_approval(ready.target) else mode
            context = await self._may_we(plan, asked, ready)
            await self._same_world()
            await self._still_wanted(plan)
            licence = await self._licence(plan, asked, ready, context)
            await acting.act(self, plan, ready, licence)

    async def _licence(self, plan: Plan, mode: Mode, ready: Ready, context: GuardContext) -> Licence:
        needs_approval = mode is Mode.APPROVE or plan.approval is not None
        rule, index = plan.rule, ready.index
        if self.engine.draining:
            await self.hand_back()
            raise Stop
        self.set_step(rule, index, state="acting", attempt=self.attempt(index))
        self._note()
        moved = self.run.move(
            State.RUNNING, "acting", ready.change.summary, now=self.now(), progress=self.progress, mode=mode.value
        )
        detail = {
            **ready.shown(rule.step_id(index)),
            "attempt": self.attempt(index),
            "effect": ready.action.effect_on(ready.target).value,
            "evidence": self.progress.get("evidence", {}),
            "verdicts": self.verdicts,
            "mode": mode.value,
        }
        request = LicenceRequest(
            run=moved,
            step=index,
            attempt=self.attempt(index),
            action=ready.step.uses,
            target=ready.step.target,
            subject=ready.action.subject(),
            effect=ready.action.effect_on(ready.target).value,
            change=ready.shown_change,
            incident_key=self.incident.key,
            limits=[limit for _, guard in plan.guards for limit in guard.limits(context)],
            approval=ready.digest if needs_approval else "",
            entry=self.entry("effect.intent", detail),
        )
        crashpoint("engine.before_licence")
        # From here on the commit may have happened without our knowing: nobody hands this run back.
        self.lease.acting = True
        answer = await self.store.licence(request)
        if isinstance(answer, Refusal):
            self.lease.acting = False
            await self._refused(rule, index, answer)
        else:
            self.run = answer.run
            self.effects.append(acting.intent(request, answer))
            crashpoint("engine.after_licence")
            return answer
        raise Stop

    async def _refused(self, rule: Rule, index: int, refusal: Refusal) -> None:
        self.set_step(rule, index, state="waiting")
        self.verdicts.append(
            {"guard": refusal.reason, "decision": refusal.kind, "reason": refusal.reason, "message": refusal.message}
        )
        self.engine.metrics.guard_verdicts_total.labels(refusal.reason, refusal.kind).inc()
        if refusal.kind == "hold":
            await self.hold(refusal.reason, refusal.message, refusal.until)
        if refusal.kind == "cancel":
            to = State.SUCCEEDED if self.acted else State.CANCELLED
            await self.stop(to, refusal.reason, refusal.message)
        await self.stop(State.DENIED, refusal.reason, refusal.message)

    async def _finish(self, plan: Plan) -> None:
        end = self.ending(plan)
        await self.save(end.to, end.reason, end.message, wake_at=end.wake_at)
        raise Stop

    def ending(self, plan: Plan) -> Ending:
        """Where a run goes once all its steps are done: succeeded, or verifying. Sets the progress to match."""
        verify, until = plan.rule.verify, plan.until
        if verify is None or until is None:
            if not self.effects:
                told = "; ".join(step["outcome"]["summary"] for step in self.progress["steps"])
                return Ending(State.SUCCEEDED, "nothing_to_do", told)
            return Ending(State.SUCCEEDED, "done", "all steps are done")
        now = self.now()
        self.progress = {**self.progress, "verify": {"since": now, "until": now + verify.within, "looks": 0}}
        gone, _ = self._ask(until)
        if gone:
            return Ending(State.SUCCEEDED, "verified", f"the problem is gone: {until.source}")
        message = f"waits up to {format_duration(verify.within)} for {until.source}"
        return Ending(State.VERIFYING, "verifying", message, min(now + verify.every, now + verify.within))

    async def _look_again(self, plan: Plan) -> None:
        verify, until = plan.rule.verify, plan.until
        if verify is None or until is None:
            raise RuntimeError("a run verifies by a rule that has no verify")
        await self._probe(plan.rule)
        state = self.progress["verify"]
        now = self.now()
        gone, why = self._ask(until)
        if gone:
            took = format_duration(round(now - state["since"], 3))
            await self.stop(State.SUCCEEDED, "verified", f"the problem is gone after {took}: {until.source}")
        if now >= state["until"]:
            did = "acted" if self.effects else "there was nothing to do"
            message = f"{did}, but the problem is still there after {format_duration(verify.within)}: {why}"
            await self.stop(State.FAILED, "ineffective", message)
        self.progress = {**self.progress, "verify": {**state, "looks": state["looks"] + 1}}
        wake = min(now + verify.every, state["until"])
        moved = self.run.move(
            State.VERIFYING, "verifying", self.run.message, now=now, wake_at=wake, progress=self.progress
        )
        self.run = await self.store.save(moved)
        raise Stop

    async def hand_back(self) -> None:
        """Give the run back during a drain, if nothing is under way that only this process knows."""
        if self.lease.acting or self.run.state is not State.RUNNING:
            return
        crashpoint("worker.drain")
        try:
            message = "handed back by a process that is stopping"
            await self.save(State.QUEUED, "drained", message, wake_at=self.now())
        except (Lost, StoreUnavailable) as error:
            _log.warning("could not hand the run back; its lease will end", error=str(error))

    async def bug(self, error: Exception) -> None:
        """End the run after an error nobody planned for."""
        message = f"stopped by a bug: {type(error).__name__}: {redact(str(error))}"
        # What was learnt since the last commit may be what cannot be written down.
        self.progress, self.verdicts = {**self.run.progress}, []
        intent = next((effect for effect in self.effects if effect.state == "intent"), None)
        try:
            if intent is not None:
                await acting.abandon(self, intent, message, "bug")
            else:
                await self.save(State.FAILED, "bug", message)
        except (Lost, StoreUnavailable) as lost:
            _log.error("could not even record the bug; the lease will end", error=str(lost))
        except Exception:  # noqa: BLE001 - logged, and this must go on.
            _log.exception("could not even record the bug; the lease will end")


__all__ = ["FAR", "RECHECK", "Engine", "Lease", "Line"]
