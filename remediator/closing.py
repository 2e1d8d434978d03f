"""Put things in order: undo what did not help, run the steps that must run in any case, give back what was temporary.

What is done here is licensed like everything else, but on terms of its own: the alert may be gone, no limit counts it,
and nobody is asked again. A pause holds it.
"""

from __future__ import annotations

from typing import Any, NoReturn

import structlog

from remediator import acting
from remediator.asking import Asking
from remediator.clock import format_duration
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, InputError, Lost, NotFound, StoreUnavailable
from remediator.moves import Ending, Over, Stop, Untidy
from remediator.preparing import Ready
from remediator.redact import redact
from remediator.rule import Mode, Rule, Step, Wait
from remediator.run import State
from remediator.store import Licence, LicenceRequest, Refusal

_log = structlog.get_logger("remediator.engine")

MAX_TAKEOVERS = 5
"""A run whose owners died this often is not given to another one."""

NOT_OURS = "changed"
"""The reason with which an action refuses to undo a value that somebody else has changed since."""


class Closing(Asking):
    """The room in which things are put in order."""

    tidying = False
    """While something is put in order, a no about it is no end of the run."""

    async def stop(self, to: State, reason: str, message: str) -> NoReturn:
        """The run ends here, once everything is in order."""
        if self.tidying:
            raise Untidy(to, reason, message)
        if self._to_tidy(to, reason, message):
            if self.run.state is State.VERIFYING:
                # Acting needs the target for itself, which only a claim gives.
                await self.save(State.HELD, reason, message, wake_at=self.now())
                raise Stop
            raise Over
        await self.end(to, reason, message)

    def as_ended(
        self, to: State, reason: str, message: str, wake_at: float | None = None
    ) -> tuple[State, str, str, float | None]:
        """Where the run goes instead of ``to`` while there is something to put in order first."""
        ends = to not in (State.RUNNING, State.HELD, State.VERIFYING)
        if ends and (self.tidying or self._to_tidy(to, reason, message)):
            return State.RUNNING, reason, message, None
        return to, reason, message, wake_at

    def tidy(self, end: Ending) -> None:
        """Go on with putting in order, or tell whoever does so that this could not be."""
        if self.tidying:
            raise Untidy(end.to, end.reason, end.message)
        raise Over

    def _to_tidy(self, to: State, reason: str, message: str) -> bool:
        """Whether something must be put in order before the run may end so; notes it in the progress if so."""
        return False

    # one step -------------------------------------------------------------------------------------------------------

    async def _in_order(self, index: int) -> None:
        """Carry out the step at ``index`` on the terms of this room. Raises Untidy."""
        self.tidying = True
        try:
            state, step = self.step(index)["state"], self.script[index]
            if state == "done":
                return
            if step.wait is not None:
                await self._wait(index, step.wait)
                return
            if self.world.mode_max is Mode.OBSERVE:
                raise Untidy(State.DENIED, "mode", "rules may only observe now")
            if state == "applied":
                await acting.settle(self, await self._ready(index, diff=False))
                return
            ready = await self._ready(index)
            if ready.change.empty:
                self._already(ready)
                return
            await acting.same_key(self, ready)
            await acting.act(self, ready, await self._clear(ready))
        finally:
            self.tidying = False

    async def _clear(self, ready: Ready) -> Licence:
        """The licence to put something in order."""
        detail = {"effect": ready.action.effect_on(ready.target).value, "closing": True, "mode": self.run.mode}
        return await self._take(ready, detail, limits=(), approval="", under_way=True, closing=True)

    async def _take(self, ready: Ready, detail: dict[str, Any], **terms: Any) -> Licence:
        """Ask the store for the licence to do ``ready`` on these terms. Returns with it, or ends the advance."""
        index = ready.index
        if self.engine.draining:
            await self.hand_back()
            raise Stop
        self.set_step(index, state="acting", attempt=self.attempt(index))
        self._note()
        try:
            spend = ready.action.spend(ready.target, ready.change)
        except ActionError as error:
            await acting.failed(self, index, error)
        moved = self.run.move(
            State.RUNNING,
            "acting",
            ready.change.summary,
            now=self.now(),
            progress=self.progress,
            mode=terms.pop("mode", None),
        )
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
            spend=spend,
            announces=ready.step.causes,
            announces_for=ready.step.causes_for,
            answers=self.labels.get("alertname", ""),
            entry=self.entry(
                "effect.intent", {**ready.shown(self.step_id(index)), "attempt": self.attempt(index), **detail}
            ),
            **terms,
        )
        crashpoint("engine.before_licence")
        # From here on the commit may have happened without our knowing: nobody hands this run back.
        self.lease.acting = True
        answer = await self.store.licence(request)
        if isinstance(answer, Refusal):
            self.lease.acting = False
            await self._refused(index, answer)
        else:
            self.run = answer.run
            self.effects.append(acting.intent(request, answer))
            crashpoint("engine.after_licence")
            return answer
        raise Stop

    async def _refused(self, index: int, refusal: Refusal) -> None:
        self.set_step(index, state="waiting")
        self.verdicts.append(
            {"guard": refusal.reason, "decision": refusal.kind, "reason": refusal.reason, "message": refusal.message}
        )
        self.engine.metrics.guard_verdicts_total.labels(refusal.reason, refusal.kind).inc()
        if refusal.kind == "hold":
            await self.hold(refusal.reason, refusal.message, refusal.until)
        if refusal.kind == "cancel":
            await self._resolved(refusal.message)
        await self.stop(State.DENIED, refusal.reason, refusal.message)

    async def _resolved(self, message: str) -> NoReturn:
        """The alert is gone, and nothing more is to be done about it."""
        to = State.SUCCEEDED if self.acted else State.CANCELLED
        await self.stop(to, "resolved", message)

    async def _rule(self) -> Rule | None:
        """The rule as this run was planned by it; today's where that cannot be read any more; or None."""
        rule = self.world.rules.get(self.run.rule)
        if rule is not None and rule.digest == self.run.rule_digest:
            return rule
        try:
            return Rule.from_body(await self.store.rule_body(self.run.rule_digest))
        except (InputError, NotFound, ValueError):
            return rule  # The words of today's rule are better than none.

    # waiting --------------------------------------------------------------------------------------------------------

    async def _wait(self, index: int, wait: Wait) -> None:
        """A step that waits: held until its time has come, or until what it waits for is so."""
        now, state = self.now(), self.step(index)
        length = wait.for_ if wait.for_ is not None else wait.within or 0.0
        until = float(state.get("until") or now + length)
        if wait.for_ is not None:
            if now >= until:
                await self._waited(index, f"waited {format_duration(wait.for_)}")
                return
            self.set_step(index, until=until)
            await self.hold("waiting", f"step {self.step_id(index)} waits {format_duration(wait.for_)}", until)
        so, why = await self._so(index)
        if so:
            await self._waited(index, f"it is so: {wait.until}")
            return
        if now >= until:
            self.set_step(index, state="failed", outcome={"summary": why, "data": {}})
            await self.stop(
                State.FAILED, "wait_timeout", f"step {self.step_id(index)}: {why} after {format_duration(length)}"
            )
        self.set_step(index, until=until)
        message = f"step {self.step_id(index)} waits for {wait.until}"
        await self.hold("waiting", message, min(now + wait.every, until))

    async def _so(self, index: int) -> tuple[bool, str]:
        """Whether what a step waits for is so, seen anew; and why not."""
        raise NotImplementedError

    async def _waited(self, index: int, summary: str) -> None:
        self.set_step(index, state="done", outcome={"summary": summary, "data": {}})
        if self.after(index) is None:
            await self.save(State.RUNNING, "step_done", f"step {self.step_id(index)} is done")

    # undoing --------------------------------------------------------------------------------------------------------

    def _undoing(self, index: int) -> int:
        """The index of the step that undoes the one at ``index``; it is added when it is first asked for."""
        known = self.step(index).get("undo")
        if known is not None:
            return int(known)
        done, inverse = self.script[index], self.step(index)["inverse"]
        raw = {
            "id": f"undo_{self.step_id(index)}"[:63],
            "uses": inverse["uses"],
            "target": done.target,
            "with": inverse["with"],
            "timeout": format_duration(done.timeout),
            "retry": {"attempts": 3, "backoff": "10s"},
        }
        self.step(len(self.script) - 1)
        self.script.append(Step.model_validate(raw))
        at = len(self.script) - 1
        self.set_step(at, undoes=index, script=raw)
        self.set_step(index, undo=at)
        return at

    def take_up_added(self) -> None:
        """Read back the steps that were added before a restart."""
        for kept in self.progress.get("steps", ())[len(self.script) :]:
            self.script.append(Step.model_validate(kept["script"]))

    # when it cannot go on -------------------------------------------------------------------------------------------

    async def _bound_takeovers(self) -> None:
        if self.run.tries > MAX_TAKEOVERS:
            message = f"{self.run.tries} owners of this run died; a person must look before it goes on"
            for effect in self.effects:
                if effect.state == "intent":
                    await acting.abandon(self, effect, message, "poison")
                    raise Stop
            await self.end(State.NEEDS_HUMAN, "poison", message)

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
