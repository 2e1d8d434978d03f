"""The straight line of a run that carries out a rule: look, may we, what, licence, act, helped, in order.

Every way out of a step is a move of the run, committed with the audit entry that says why. Here is the order in which
things are asked; each room has its own file: moves.py, looking.py, preparing.py, asking.py, acting.py for what can
happen while acting, and closing.py for what must be put in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NoReturn

import structlog

from remediator import acting, escalating, reverting
from remediator.clock import format_duration
from remediator.closing import NOT_OURS, Closing
from remediator.crashpoint import crashpoint
from remediator.errors import Conflict, InputError, NotFound
from remediator.guard import GuardContext
from remediator.guards.approval import Approval as ApprovalGuard
from remediator.moves import Ending, Over, Stop, Untidy
from remediator.planning import Plan, Trial, effective_mode
from remediator.preparing import Ready
from remediator.rule import Mode, Rule
from remediator.run import LIVE, Kind, Run, State
from remediator.store import Approval, EffectRow, Licence

_log = structlog.get_logger("remediator.engine")

_NO_CURE = frozenset({"superseded", "unknown_verification"})
"""Failures that say nothing about the remedy: nothing is undone, and no other remedy is tried."""
_CALLED = {"ineffective": "ineffective", "unknown_verification": "unknown", "succeeded": "helped"}
"""How a remedy is called that ended for these reasons; otherwise as the run is."""


class Line(Closing):
    """The line itself: every room in its order, for a run that carries out a rule."""

    plan: Plan

    async def go(self) -> None:
        """Everything in order; ends by Stop, or by raising what the engine handles."""
        try:
            self.plan = await self._plan()
            self.script = [*self.plan.rule.script]
            self.take_up_added()
            if self.run.state is State.VERIFYING:
                await self._look_again()
            while True:
                with contextlib.suppress(Over):
                    await self._once()
        except Stop:
            return

    async def _once(self) -> None:
        await self._bound_takeovers()
        for effect in [*self.effects]:
            if effect.state == "intent":
                await self._recover(effect)
        if "cancel" in self.progress and "closing" not in self.progress:
            asked = self.progress["cancel"]
            await self.stop(State(asked["to"]), asked["reason"], asked["message"])
        if "closing" in self.progress:
            await self._tidy_up()
        await self._still_wanted()
        await self._not_too_old()
        await self._probe(self.plan.rule.probes)
        await self._conditions(self.plan)
        await self._remedies()

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
            await self.end(State.FAILED, "plan", f"the rule this run was planned by cannot be read any more: {error}")

    async def _recover(self, effect: EffectRow) -> None:
        self.tidying = "closing" in self.progress
        try:
            await acting.recover(self, effect)
        except Untidy as error:
            self._left(effect.step, error)
        finally:
            self.tidying = False

    async def _still_wanted(self) -> None:
        """R14: still firing, and the rule unchanged. Once a step has acted only the first of them counts."""
        if not self.incident.open:
            if self.acted and self.incident.superseded:
                message = "the alert began again; the new incident has a run of its own"
                await self.stop(State.FAILED, "superseded", message)
            what = "no further step is needed" if self.acted else "it did so before the run began to act"
            await self._resolved(f"the alert resolved; {what}")
        if self.acted:
            return
        current = self.world.rules.get(self.run.rule)
        if current is None:
            await self.stop(State.CANCELLED, "rule_removed", "the rule was removed before the run began to act")
        elif current.digest != self.run.rule_digest:
            await self.stop(State.CANCELLED, "rule_changed", "the rule was edited before the run began to act")

    async def _not_too_old(self) -> None:
        """R14: what was left lying, before it began or half way, is reported and not carried out late."""
        since = max(self.run.due_at, self.run.wake_at, *(effect.licensed_at for effect in self.effects))
        late = self.now() - since
        if late > self.plan.rule.max_age:
            what = "its last step began" if self.acted else "it was due"
            message = f"{what} {format_duration(late)} ago, and max_age is {format_duration(self.plan.rule.max_age)}"
            await self.stop(State.EXPIRED, "max_age", message)

    async def _same_world(self) -> None:
        """A reload while this run was being decided on: rules, permissions and modes are asked again from the start."""
        if self.engine.world() is not self.world:
            message = "rules or settings were loaded while it was being decided on; it is decided on again"
            await self.hold("reloaded", message, self.now())

    # remedies -------------------------------------------------------------------------------------------------------

    @property
    def at(self) -> int:
        """The number of the remedy whose turn it is."""
        return int(self.progress.get("at", 0))

    @property
    def trial(self) -> Trial:
        """The remedy whose turn it is."""
        return self.plan.trials[self.at]

    def place_of(self, index: int) -> dict[str, Any]:
        """The number of the step's remedy, or that it is a final one; nothing for a step that undoes another."""
        if index in self.plan.final:
            return {"final": True}
        return next(({"remedy": number} for number, t in enumerate(self.plan.trials) if index in t.span), {})

    def _remedy(self, **values: Any) -> dict[str, Any]:
        """The progress of the remedy whose turn it is, with these values put in."""
        known = [*self.progress.get("remedies", ())]
        known += [{"name": trial.name, "state": "waiting"} for trial in self.plan.trials[len(known) : self.at + 1]]
        known[self.at] = found = {**known[self.at], **values}
        if values:
            self.progress = {**self.progress, "remedies": known}
        return found

    async def _remedies(self) -> None:
        mode = effective_mode(self.plan.rule, self.world.mode_max)
        if mode is Mode.OBSERVE and self.acted:
            await self.end(State.DENIED, "mode", "rules may only observe now; the steps that were left are not done")
        noes, reason = [], "if"
        while self.at < len(self.plan.trials):
            answer, why = self._applies()
            if answer:
                if mode is Mode.OBSERVE:
                    await self._observe(self.plan, self.trial)
                await self._try(mode)
            noes.append(f"{self.trial.name or 'the remedy'}: {why}")
            reason = self._no(reason, answer)
            self.progress = {**self.progress, "at": self.at + 1}
        if "last" not in self.progress:
            await self.end(State.DENIED, reason, "no remedy applies: " + "; ".join(noes))
        self._as_last(noes)

    def _as_last(self, more: Sequence[str]) -> NoReturn:
        """End as the remedy before ended: nothing that came after it has acted."""
        last = self.progress["last"]
        closing = {**last, "message": "; ".join([last["message"], *more]), "undo": [], "next": None}
        self.progress = {**self.progress, "closing": closing}
        raise Over

    async def _resolved(self, message: str) -> NoReturn:
        """The alert is gone. Where the last remedy that acted did not help, that one did not end the problem."""
        acted = any(e.state != "failed" and e.step in self.trial.span for e in self.effects)
        if "last" in self.progress and not acted and not self.tidying:
            self._as_last(["the alert has resolved meanwhile"])
        await super()._resolved(message)

    def _applies(self) -> tuple[bool | None, str]:
        """Whether the remedy whose turn it is applies, None where it cannot be told; and why not."""
        state = self._remedy()["state"]
        if state == "trying" or self.trial.if_ is None:
            if state != "trying" and len(self.plan.trials) > 1:
                self._remedy(state="trying", since=self.now())
            return True, ""
        answer, why = self._tell(self.trial.if_)
        self._remedy(**({"state": "trying", "since": self.now()} if answer else {"state": "skipped", "message": why}))
        return answer, why

    async def _try(self, mode: Mode) -> None:
        for index in self.trial.span:
            state, step = self.step(index)["state"], self.script[index]
            if state == "done":
                continue
            if step.wait is not None:
                await self._wait(index, step.wait)
                continue
            if state == "applied":
                await acting.settle(self, await self._ready(index, diff=False))
                continue
            ready = await self._ready(index)
            if ready.change.empty:
                self._already(ready)
                continue
            await acting.same_key(self, ready)
            await self._returnable(ready)
            await self._returns(ready)
            # Some levers are never pulled without a person, however much the rule is trusted.
            asked = mode.at_most(Mode.APPROVE) if ready.action.needs_approval(ready.target) else mode
            context = await self._may_we(self.plan, asked, ready, self.trial.span.stop)
            await self._same_world()
            await self._still_wanted()
            await acting.act(self, ready, await self._licence(asked, ready, context))
        end = self._ending()
        if end.to is State.VERIFYING:
            await self.save(end.to, end.reason, end.message, wake_at=end.wake_at)
            raise Stop
        await self.stop(end.to, end.reason, end.message)

    async def _returnable(self, ready: Ready) -> None:
        """A change that is meant to be temporary is only made if there is a way back."""
        if ready.step.lease is not None and acting.inverse_of(self, ready.index, ready.action, ready.change) is None:
            message = f"{ready.step.uses} is to be temporary, but nothing could put it back: {ready.change.summary}"
            await self.stop(State.DENIED, "no_way_back", message)

    async def _returns(self, ready: Ready) -> None:
        """Note whether a temporary change only does what an earlier one's way back is there for.

        Then it gets no way back of its own, which would later bring back what was only meant to help for a while. The
        earlier way back stays: it finds its work done, or does it, should this change be undone.
        """
        if ready.step.lease is None:
            return
        backs = await self.store.runs(kinds=(Kind.REVERT,), states=tuple(LIVE), limit=1000)
        known = [(back.progress["change"], back.locks[0]) for back in backs]
        here = (ready.step.target, ready.action.subject())
        same = [change for change, lock in known if (lock.target, lock.subject) == here]
        latest = max(same, key=lambda change: float(change["made_at"]), default=None)
        returns = (
            latest is not None
            and latest["made_by"] == ready.step.uses
            and latest["change"]["before"] == ready.shown_change["after"]
            and not self.step(ready.index)["masked"]
        )
        # Said anew each time: while this waited for a person, the earlier way back may have ended.
        self.set_step(ready.index, returns=returns)

    async def _licence(self, mode: Mode, ready: Ready, context: GuardContext) -> Licence:
        asked = any(isinstance(guard, ApprovalGuard) and not guard.excused(context) for _, guard in self.plan.guards)
        needs_approval = mode is Mode.APPROVE or asked
        if self.plan.final:
            self.progress = {**self.progress, "cleanup": True}
        detail = {
            "effect": ready.action.effect_on(ready.target).value,
            "evidence": self.progress.get("evidence", {}),
            "verdicts": self.verdicts,
            "mode": mode.value,
            "remedy": self.trial.name,
        }
        return await self._take(
            ready,
            detail,
            mode=mode.value,
            limits=[limit for _, guard in self.plan.guards for limit in guard.limits(context)],
            approval=ready.digest if needs_approval else "",
            under_way=self.acted,
        )

    def after(self, index: int) -> Ending | None:
        """Where the run goes now that the step at ``index`` is done; None: it goes on."""
        if self.tidying or index + 1 != self.trial.span.stop:
            return None
        return self._ending()

    def _ending(self) -> Ending:
        """Where the run goes once the steps of a remedy are done: succeeded, or verifying, with its progress set."""
        verify, until = self.trial.verify, self.trial.until
        if verify is None or until is None:
            if not self.effects:
                told = "; ".join(step["outcome"]["summary"] for step in self.progress["steps"] if "outcome" in step)
                return Ending(State.SUCCEEDED, "nothing_to_do", told)
            return Ending(State.SUCCEEDED, "done", "all steps are done")
        now = self.now()
        self.progress = {**self.progress, "verify": {"since": now, "until": now + verify.within, "looks": 0}}
        # What probes saw before the steps is no answer to whether they helped.
        gone = not until.looks and not verify.settle and self._ask(until)[0]
        if gone:
            return Ending(State.SUCCEEDED, "verified", f"the problem is gone: {until.source}")
        message = f"waits up to {format_duration(verify.within)} for {until.source}"
        first = now if until.looks else min(now + verify.every, now + verify.within)
        return Ending(State.VERIFYING, "verifying", message, first)

    async def _look_again(self) -> None:
        verify, until = self.trial.verify, self.trial.until
        if verify is None or until is None:
            raise RuntimeError("a run verifies by a remedy that has no verify")
        await self._probe(self.plan.rule.probes)
        state = dict(self.progress["verify"])
        now = self.now()
        gone, why = self._tell(until)
        if gone:
            held = now - state.setdefault("gone_since", now)
            if held >= verify.settle:
                took = format_duration(round(now - state["since"], 3))
                await self.stop(State.SUCCEEDED, "verified", f"the problem is gone after {took}: {until.source}")
        else:
            state.pop("gone_since", None)
        if now >= state["until"] and not gone:
            within = format_duration(verify.within)
            if gone is None:
                message = f"whether it helped cannot be told within {within}: {why}"
                await self.stop(State.FAILED, "unknown_verification", message)
            did = "acted" if self.effects else "there was nothing to do"
            await self.stop(
                State.FAILED, "ineffective", f"{did}, but the problem is still there after {within}: {why}"
            )
        self.progress = {**self.progress, "verify": {**state, "looks": state["looks"] + 1}}
        wake = state["gone_since"] + verify.settle if gone else state["until"]
        moved = self.run.move(
            State.VERIFYING, "verifying", self.run.message, now=now, wake_at=min(now + verify.every, wake),
            progress=self.progress,
        )  # fmt: skip
        self.run = await self.store.save(moved)
        raise Stop

    async def _so(self, index: int) -> tuple[bool, str]:
        """Whether what a step waits for is so, seen anew; and why not."""
        await self._probe(self.plan.rule.probes)
        return self._ask(self.plan.waits[index])

    # in order -------------------------------------------------------------------------------------------------------

    def follow(self, to: State, reason: str, message: str) -> Sequence[Run]:
        """People are called when the run ends so that they are needed."""
        rule = self.plan.rule if hasattr(self, "plan") else self.world.rules.get(self.run.rule)
        if to is State.HELD:
            return escalating.held(self, rule, reason, self.held_about)
        return escalating.called(self, rule, to, reason)

    def question(self, approval: Approval) -> Sequence[Run]:
        """People are told about an open question, where the settings say so."""
        return escalating.asked(self, self.plan.rule, approval)

    def _to_tidy(self, to: State, reason: str, message: str) -> bool:
        """Whether the remedy must be undone, another one tried, or final steps run before the run may end so."""
        if "closing" in self.progress or self.at >= len(self.plan.trials):
            return False
        cure = to is State.FAILED and reason not in _NO_CURE
        undo = self._undoable() if (cure or to is State.DENIED) and not self.trial.keep else []
        again = self.at + 1 if cure and self.at + 1 < len(self.plan.trials) else None
        if len(self.plan.trials) > 1:
            called = _CALLED.get(reason) or _CALLED.get(to.value, to.value)
            self._remedy(state=called, reason=reason, message=message, until=self.now())
        if not undo and again is None and not (self.acted and self.plan.final):
            return False
        self.progress = {
            **self.progress,
            "closing": {"to": to.value, "reason": reason, "message": message, "undo": undo, "next": again, "left": []},
        }
        if undo:
            # From here on a person who cancels it only asks it to end: what did not help is put back first.
            self.progress = {**self.progress, "cleanup": True}
        return True

    def _undoable(self) -> list[int]:
        steps = self.progress.get("steps", ())
        done = [index for index in self.trial.span if index < len(steps) and "inverse" in steps[index]]
        return [index for index in reversed(done) if steps[index]["state"] in ("done", "applied", "unverified")]

    def _left(self, index: int, error: Untidy) -> None:
        """Something could not be put in order: the run goes on with the rest, and says so at its end."""
        told = {"summary": error.message, "reason": error.reason, "data": {}}
        if self.step(index)["state"] != "unknown":
            self.set_step(index, state="failed", outcome=told)
        closing = {**self.progress["closing"]}
        if error.reason != NOT_OURS:
            closing["next"] = None
        if error.to is State.NEEDS_HUMAN:
            closing["to"], closing["reason"] = error.to.value, error.reason
        closing["left"] = [*closing["left"], f"{self.step_id(index)}: {error.message}"]
        self.progress = {**self.progress, "closing": closing}

    async def _order(self, index: int) -> None:
        if self.step(index)["state"] in ("done", "failed", "unknown"):
            return
        try:
            await self._in_order(index)
        except Untidy as error:
            _log.warning("could not be put in order", step=self.step_id(index), error=error.message)
            self._left(index, error)

    async def _tidy_up(self) -> None:
        """Undo, then try the next remedy or run the final steps and end. Returns only to try the next remedy."""
        for index in self.progress["closing"]["undo"]:
            at = self._undoing(index)
            crashpoint("closing.before_undo")
            await self._order(at)
            crashpoint("closing.after_undo")
            if self.step(at)["state"] == "done" and self.step(index)["state"] != "undone":
                self.set_step(index, state="undone")
                await self._give_back(index)
                crashpoint("closing.after_give_back")
        closing = self.progress["closing"]
        if closing["next"] is not None and "cancel" not in self.progress and self.incident.open:
            kept = {key: value for key, value in self.progress.items() if key not in ("closing", "verify")}
            self.progress = {**kept, "at": closing["next"], "last": closing}
            message = f"{closing['message']}; another remedy is tried"
            crashpoint("closing.before_next_remedy")
            await self.save(State.RUNNING, "next_remedy", message)
            crashpoint("closing.after_next_remedy")
            return
        if self.acted:
            for index in self.plan.final:
                crashpoint("closing.before_final")
                await self._order(index)
                crashpoint("closing.after_final")
        closing = self.progress["closing"]
        left = "".join(f"; not put in order: {each}" for each in closing["left"])
        undone = [self.step_id(index) for index in closing["undo"] if self.step(index)["state"] == "undone"]
        told = f"; undone: {', '.join(undone)}" if undone else ""
        crashpoint("closing.before_end")
        await self.end(State(closing["to"]), closing["reason"], closing["message"] + told + left)

    def temporary(self, index: int, subject: str) -> Sequence[Run]:
        """The run that puts back what the step at ``index`` changed, if the change is temporary."""
        step = self.script[index]
        if step.lease is None or self.tidying or self.step(index).get("returns"):
            return ()
        back = reverting.way_back(self, index, step, subject)
        self.set_step(index, revert=back.id)
        return (back,)

    async def _give_back(self, index: int) -> None:
        """What was undone needs no way back any more: its run looks, and sees so."""
        back = self.step(index).get("revert")
        if back is None:
            return
        try:
            await self.store.hasten(back, "remediator", "undone, because it did not help")
        except (Conflict, NotFound) as error:
            _log.warning("the way back of an undone change does not wait any more", error=str(error))
