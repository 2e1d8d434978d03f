"""Advances one run along the straight line: look, may we, what, licence, act, helped.

Every way out of a step is a move of the run, committed with the audit entry that says why. The classification of
everything that can happen while acting is in acting.py; here is the order in which things are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import structlog

from remediator import acting
from remediator.acting import Stop
from remediator.action import Action, ActionContext, Change, canonical_json
from remediator.audit import Entry
from remediator.clock import Clock, format_duration
from remediator.crashpoint import crashpoint
from remediator.errors import ActionError, InputError, Lost, PermanentError, StoreUnavailable
from remediator.expression import Expression, ExpressionError
from remediator.guard import Decision, Guard, GuardContext, Limit, Verdict
from remediator.guards.approval import Approval as ApprovalGuard
from remediator.guards.pause import Pause as PauseGuard
from remediator.ids import Ids
from remediator.metrics import Metrics
from remediator.planning import Plan, effective_mode, environment, make_action, make_probe
from remediator.probe import Evidence, ProbeContext
from remediator.redact import redact
from remediator.rule import Mode, ProbeCall, Rule, Step
from remediator.run import Lock, State
from remediator.store import Approval, Claim, Licence, LicenceRequest, Refusal, Store
from remediator.target import Target
from remediator.world import World

_log = structlog.get_logger("remediator.engine")

FAR = 4102444800.0
"""2100-01-01: the wake-up of a run that only a person or an event wakes."""
RECHECK = 15.0
"""When a hold has no known end, it is looked at again after this many seconds."""
MAX_TAKEOVERS = 5
"""A run whose owners died this often is not given to another one."""
_GUARD_SECONDS = 10.0
"""A guard that has not answered by then could not be evaluated."""


@dataclass(slots=True)
class Lease:
    """What an advance and its worker share: until when an effect may begin, and whether one is under way.

    ``deadline`` is on the monotonic clock. While ``acting``, only this advance knows what is happening outside.
    """

    deadline: float
    acting: bool = False


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


@dataclass(slots=True)
class Ready:
    """A step with everything that must be known before it may act."""

    index: int
    step: Step
    action: Action[Any]
    target: Target
    change: Change
    parameters: Mapping[str, Any]
    shown_change: Mapping[str, Any]
    """The change without secrets, as it is kept and shown."""
    digest: str
    """The digest of the change, computed once."""

    def shown(self, step_id: str) -> dict[str, Any]:
        """What an approver sees and what the answer is bound to."""
        return {
            "step": self.index,
            "id": step_id,
            "uses": self.step.uses,
            "target": self.step.target,
            "parameters": self.parameters,
            "change": self.shown_change,
            "digest": self.digest,
        }


class Ending(NamedTuple):
    """Where a run goes when nothing is left to do."""

    to: State
    reason: str
    message: str
    wake_at: float | None = None


class Line:
    """One advance of one run; holds the run as it is after its last committed move."""

    def __init__(self, engine: Engine, claim: Claim, lease: Lease) -> None:
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
        self.labels = claim.incident.common_labels
        self.verdicts: list[dict[str, Any]] = []

    def now(self) -> float:
        """The store's time: when it gave the claim, and what has passed since.

        Every owner on every host counts by the same clock, and none that is wrong or set changes a decision.
        """
        return self._claimed_at + (self.clock.monotonic() - self._claimed)

    # the line --------------------------------------------------------------------------------------------------------

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
                await self.stop(State.FAILED, "superseded", "the alert began again; the new incident has a run of its own")
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

    @property
    def acted(self) -> bool:
        """Whether any licence of this run was used, as far as is known."""
        return any(effect.state != "failed" for effect in self.effects)

    # look ------------------------------------------------------------------------------------------------------------

    async def _probe(self, rule: Rule) -> None:
        if not rule.probes:
            return
        seen = await asyncio.gather(*(self._look_at(call) for call in rule.probes))
        self.progress["evidence"] = {evidence.probe: evidence.as_json() for evidence in seen}
        crashpoint("engine.after_probes")

    async def _look_at(self, call: ProbeCall) -> Evidence:
        target = self.world.targets.get(call.target)
        at = self.now()

        def unknown(why: str) -> Evidence:
            return Evidence(probe=call.id, uses=call.uses, target=call.target, at=at, ok=False, error=why)

        if target is None:
            return unknown(f'no target is named "{call.target}"')
        try:
            probe = make_probe(call, self.known(), self.world.registry)
            refusal = target.refusal(call.uses, probe.needs())
            if refusal is not None:
                return unknown(refusal)
            async with asyncio.timeout(call.timeout):
                value = redact(dict(await probe.read(target, ProbeContext(run_id=self.run.id, clock=self.clock))))
            canonical_json(value)
        except TimeoutError:
            return unknown(f"no answer within {format_duration(call.timeout)}")
        except (ActionError, InputError) as error:
            return unknown(redact(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
            # A probe with a bug has seen nothing; the conditions that read it will say no.
            _log.exception("a probe failed in a way it should not", probe=call.id)
            return unknown(f"bug in {call.uses}: {type(error).__name__}")
        return Evidence(probe=call.id, uses=call.uses, target=call.target, at=at, ok=True, value=value)

    def known(self) -> dict[str, Any]:
        """What expressions and placeholders can see now."""
        rule = self.world.rules.get(self.run.rule)
        severity = self.world.severity(rule, self.labels) if rule else self.labels.get("severity", "")
        return environment(self.incident, severity, self.progress, now=self.now())

    async def _conditions(self, plan: Plan) -> None:
        if self.acted:
            return
        for reason, expression in (("condition", plan.condition), ("if", plan.if_)):
            if expression is not None:
                answer, message = self._ask(expression)
                if not answer:
                    await self.stop(State.DENIED, reason, message)

    def _ask(self, expression: Expression) -> tuple[bool, str]:
        try:
            answer = expression.evaluate(self.known())
        except ExpressionError as error:
            return False, f"cannot be told, which is a no: {error} (in {expression.source})"
        return answer, "" if answer else f"not so: {expression.source}"

    # steps -----------------------------------------------------------------------------------------------------------

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
            context = await self._may_we(plan, mode, ready)
            await self._same_world()
            await self._still_wanted(plan)
            licence = await self._licence(plan, mode, ready, context)
            await acting.act(self, plan, ready, licence)

    def step(self, rule: Rule, index: int) -> dict[str, Any]:
        """The progress of a step; a new one where there is none yet."""
        steps = self.progress.setdefault("steps", [])
        if len(steps) <= index:
            for number in range(len(steps), index + 1):
                step = rule.steps[number]
                steps.append(
                    {"id": rule.step_id(number), "uses": step.uses, "target": step.target, "state": "waiting"}
                )
        found: dict[str, Any] = steps[index]
        return found

    def set_step(self, rule: Rule, index: int, **values: Any) -> None:
        """Put values into the progress of a step, without touching what was committed before."""
        self.step(rule, index)
        steps = [*self.progress["steps"]]
        steps[index] = {**steps[index], **values}
        self.progress = {**self.progress, "steps": steps}

    async def _ready(self, rule: Rule, index: int, *, diff: bool = True) -> Ready:
        step = rule.steps[index]
        target = self.world.targets.get(step.target)
        if target is None:
            await self.stop(State.DENIED, "no_target", f'no target is named "{step.target}" any more')
        try:
            action = make_action(step, self.known(), self.world.registry)
        except InputError as error:
            await self.stop(State.DENIED, "parameters", f"step {rule.step_id(index)}: {redact(str(error))}")
        refusal = target.refusal(step.uses, action.needs())
        if refusal is not None:
            await self.stop(State.DENIED, "not_permitted", refusal)
        lock = Lock(step.target, action.subject(), target.max_runs)
        if not any(held.target == lock.target and held.subject in ("", lock.subject) for held in self.run.locks):
            message = f'the settings or the rule changed what step {rule.step_id(index)} acts on ("{lock.subject}")'
            await self.stop(State.DENIED, "locks", message)
        parameters = redact(action.model_dump(mode="json", by_alias=True, exclude_unset=True))
        if not diff:
            shown = self.step(rule, index)["change"]
            return Ready(index, step, action, target, Change.from_json(shown), parameters, shown, shown["digest"])
        change = await self._diff(rule, index, action, target)
        shown, digest = redact(change.as_json()), change.digest
        self.set_step(rule, index, parameters=parameters, change={**shown, "digest": digest})
        crashpoint("engine.after_diff")
        return Ready(index, step, action, target, change, parameters, shown, digest)

    async def _diff(self, rule: Rule, index: int, action: Action[Any], target: Target) -> Change:
        step = rule.steps[index]
        try:
            async with asyncio.timeout(step.timeout):
                return await action.diff(target, self.context(rule, index))
        except TimeoutError:
            error: ActionError = PermanentError(f"{step.uses} did not tell its change in time", reason="timeout")
        except ActionError as raised:
            error = raised
        await acting.failed(self, rule, index, error)
        raise Stop

    def context(self, rule: Rule, index: int, attempt: int = 0) -> ActionContext:
        """What the action of a step may know now; ``attempt`` 0 stands for the next one."""
        return ActionContext(
            run_id=self.run.id,
            step=rule.step_id(index),
            attempt=attempt or self.attempt(index),
            key=f"{self.run.id}-{index}",
            clock=self.clock,
            deadline=self.lease.deadline,
        )

    def attempt(self, index: int) -> int:
        """The number of the next licence of a step, from 1."""
        return 1 + sum(effect.step == index for effect in self.effects)

    def _already(self, rule: Rule, ready: Ready) -> None:
        outcome = {"summary": f"nothing to do: {ready.change.summary}", "data": dict(ready.change.after)}
        self.set_step(rule, ready.index, state="done", outcome=outcome, reason="already")

    # may we ----------------------------------------------------------------------------------------------------------

    async def _may_we(self, plan: Plan, mode: Mode, ready: Ready) -> GuardContext:
        asks = mode is Mode.APPROVE or plan.approval is not None
        approval = await self.store.approval(self.run.id) if asks else None
        granted = self._granted(approval, ready)
        context = await self._guard_context(plan, mode, granted)
        self.verdicts = []
        asking: ApprovalGuard | None = None
        guards: Sequence[tuple[str, Guard]] = [("pause", PauseGuard()), *plan.guards]
        if mode is Mode.APPROVE and plan.approval is None:
            guards = [*guards, ("approval", ApprovalGuard.model_construct(expires=self.world.approval_expires))]
        for name, guard in guards:
            verdict = await self._verdict(name, guard, context)
            if verdict.decision is Decision.DENY:
                await self.stop(State.DENIED, verdict.reason, verdict.message)
            if verdict.decision is Decision.HOLD and isinstance(guard, ApprovalGuard):
                # The settings may ask for more people than the rule, or the rule for more: the stricter one counts.
                asking = guard if asking is None or guard.needed > asking.needed else asking
            elif verdict.decision is Decision.HOLD:
                until = await self._paused_until() if isinstance(guard, PauseGuard) else verdict.until
                await self.hold(verdict.reason, verdict.message, until)
        if asking is not None:
            await self._ask_people(plan, ready, asking, approval)
        return context

    async def _paused_until(self) -> float | None:
        """When the last pause of this run is over by itself; None when one of them waits for a person."""
        mine = {"global", f"rule:{self.run.rule}", *(f"target:{name}" for name in self.run.targets)}
        ends = [pause.until for pause in await self.store.pauses() if pause.scope in mine]
        return None if None in ends else max((end for end in ends if end is not None), default=self.now())

    def _granted(self, approval: Approval | None, ready: Ready) -> bool:
        return (
            approval is not None
            and approval.state == "granted"
            and approval.expires_at > self.now()
            and any(c["step"] == ready.index and c["digest"] == ready.digest for c in approval.changes)
        )

    async def _guard_context(self, plan: Plan, mode: Mode, granted: bool) -> GuardContext:
        return GuardContext(
            run_id=self.run.id,
            rule=self.run.rule,
            mode=mode.value,
            now=self.now(),
            labels=self.labels,
            severity=self.world.severity(plan.rule, self.labels),
            targets=self.run.targets,
            created_at=self.run.created_at,
            evidence=self.progress.get("evidence", {}),
            approved=granted,
            pauses={pause.scope: pause.reason for pause in await self.store.pauses()},
        )

    async def _verdict(self, name: str, guard: Guard, context: GuardContext) -> Verdict:
        try:
            async with asyncio.timeout(_GUARD_SECONDS):
                verdict = await guard.check(context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes; it is logged and classified here.
            _log.exception("a guard failed, which is a no", guard=name)
            why = redact(f"{type(error).__name__}: {error}")
            verdict = Verdict.deny("guard_error", f"guard {name} could not be evaluated: {why}")
        self.engine.metrics.guard_verdicts_total.labels(name, verdict.decision.value).inc()
        self.verdicts.append(
            {"guard": name, "decision": verdict.decision.value, "reason": verdict.reason, "message": verdict.message}
        )
        return verdict

    async def _ask_people(
        self, plan: Plan, ready: Ready, guard: ApprovalGuard, before: Approval | None
    ) -> None:
        now = self.now()
        if before is not None and before.state == "pending" and before.expires_at <= now:
            await self.stop(State.EXPIRED, "approval", "nobody answered in time")
        changes = [item.shown(plan.rule.step_id(item.index)) for item in await self._following(plan.rule, ready)]
        digest = acting.sha256(canonical_json({"rule": plan.rule.digest, "changes": changes}))
        if before is not None and before.state == "pending" and before.digest == digest:
            await self.hold("approval", "waits for a person's yes to this change", before.expires_at)
        approval = Approval(
            id=self.engine.ids(),
            run_id=self.run.id,
            digest=digest,
            changes=changes,
            state="pending",
            needed=guard.needed,
            requested_at=now,
            expires_at=now + guard.expires,
        )
        message = f"waits for {guard.needed} yes: " + "; ".join(change["change"]["summary"] for change in changes)
        self._note()
        run = self.run.move(
            State.HELD, "approval", message, now=now, wake_at=approval.expires_at, progress=self.progress
        )
        detail = {
            "approval": approval.id,
            "digest": approval.digest,
            "changes": changes,
            "expires_at": approval.expires_at,
            "evidence": self.progress.get("evidence", {}),
            "needed": guard.needed,
            "was_granted": before is not None and before.state == "granted",
        }
        self.run = await self.store.ask(run, approval, self.entry("approval.requested", detail))
        crashpoint("approval.after_ask")
        _log.info("waits for approval", digest=approval.digest, expires_in=guard.expires)
        raise Stop

    async def _following(self, rule: Rule, ready: Ready) -> list[Ready]:
        """``ready`` and the steps after it whose change can be told now; the others ask when their turn comes."""
        found = [ready]
        for index in range(ready.index + 1, len(rule.steps)):
            if "steps" in acting.roots_of(rule.steps[index]):
                break
            found.append(await self._ready(rule, index))
        return found

    # observe ---------------------------------------------------------------------------------------------------------

    async def _observe(self, plan: Plan) -> None:
        context = await self._guard_context(plan, Mode.OBSERVE, True)
        said, limits = [], list[Limit]()
        noes = []
        for name, guard in [("pause", PauseGuard()), *plan.guards]:
            verdict = await self._verdict(name, guard, context)
            if verdict.decision is not Decision.ALLOW:
                noes.append(verdict.message)
            limits += guard.limits(context)
        refusal = await self.store.within(limits, self.run, self.incident.key, self.run.targets)
        for index, step in enumerate(plan.rule.steps):
            if "steps" in acting.roots_of(step):
                said.append(f"then {step.uses}, depending on what came before")
                break
            ready = await self._ready(plan.rule, index)
            said.append(ready.change.summary)
        message = "would have done: " + "; ".join(said)
        if refusal is not None:
            noes.append(refusal.message)
        if noes:
            message += f" (but not now: {'; '.join(noes)})"
        await self.stop(State.OBSERVED, "observe", message)

    # licence ---------------------------------------------------------------------------------------------------------

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

    # the end ---------------------------------------------------------------------------------------------------------

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

    # moves -----------------------------------------------------------------------------------------------------------

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

    async def save(
        self, to: State, reason: str, message: str, *, wake_at: float | None = None
    ) -> None:
        """Move the run and record it, in one commit."""
        self._note()
        now = self.now()
        moved = self.run.move(to, reason, message, now=now, wake_at=wake_at, progress=self.progress)
        detail: dict[str, Any] = {"reason": reason, "message": message, "was": self.run.state.value}
        if to in (State.DENIED, State.HELD, State.OBSERVED, State.NEEDS_HUMAN, State.FAILED):
            # A no must be checkable from the record alone: what was seen, and what every guard said.
            detail |= {"evidence": self.progress.get("evidence", {}), "verdicts": self.verdicts}
            detail["steps"] = self.progress.get("steps", [])
        crashpoint("engine.before_save")
        self.run = await self.store.save(moved, self.entry(f"run.{to.value}", detail))
        crashpoint("engine.after_save")
        _log.info("run moved", state=to.value, reason=reason, message=message)
        self.count_end()

    def count_end(self) -> None:
        """Tell the metrics, if the run has ended."""
        if not self.run.live:
            self.engine.metrics.runs_total.labels(self.run.rule, self.run.state.value).inc()
            self.engine.metrics.run_duration_seconds.observe(max(0.0, self.run.updated_at - self.run.due_at))

    async def stop(self, to: State, reason: str, message: str) -> NoReturn:
        """Move the run and end this advance."""
        await self.save(to, reason, message)
        raise Stop

    async def hold(self, reason: str, message: str, until: float | None) -> NoReturn:
        """Hold the run until ``until``, or until what holds it is gone; then end this advance."""
        now = self.now()
        wake = until if until is not None else FAR if reason == "paused" else now + RECHECK
        await self.save(State.HELD, reason, message, wake_at=max(wake, now + 0.05))
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
