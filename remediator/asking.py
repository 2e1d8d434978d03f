"""May we: guards, people, and what observe mode would have been told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from remediator import acting
from remediator.action import canonical_json
from remediator.crashpoint import crashpoint
from remediator.errors import StoreUnavailable
from remediator.guard import Decision, Guard, GuardContext, Limit, Proposed, Verdict
from remediator.guards.approval import Approval as ApprovalGuard
from remediator.guards.feedback import Feedback as FeedbackGuard
from remediator.guards.pause import Pause as PauseGuard
from remediator.moves import Stop
from remediator.planning import Plan, Trial
from remediator.preparing import Preparing, Ready
from remediator.recalling import Recalled
from remediator.redact import redact
from remediator.rule import Mode
from remediator.run import State
from remediator.store import Approval

_log = structlog.get_logger("remediator.engine")
BUILT_IN: Sequence[tuple[str, Guard]] = (("pause", PauseGuard()), ("feedback", FeedbackGuard()))
"""Guards that stand before every effect of every rule, and need not be written."""
_GUARD_SECONDS = 10.0
"""A guard that has not answered by then could not be evaluated."""


class Asking(Preparing):
    """The room in which somebody may say no."""

    held_about = ""
    """What holds this run and many others at once, such as one storm: people are called once about it."""

    async def _may_we(self, plan: Plan, mode: Mode, ready: Ready, last: int) -> GuardContext:
        """Ask the guards, and people about the steps up to ``last``. Returns when nobody says no."""
        asks = mode is Mode.APPROVE or plan.approval is not None
        approval = await self.store.approval(self.run.id) if asks else None
        granted = self._granted(approval, ready)
        context = await self._guard_context(plan, mode, granted, ready)
        self.verdicts = []
        asking: ApprovalGuard | None = None
        guards: Sequence[tuple[str, Guard]] = [*BUILT_IN, *plan.guards]
        if mode is Mode.APPROVE and plan.approval is None:
            guards = [*guards, ("approval", ApprovalGuard.model_construct(expires=self.world.approval_expires))]
        for name, guard in guards:
            verdict = await self._verdict(name, guard, context)
            if verdict.decision is Decision.DENY:
                await self.stop(State.DENIED, verdict.reason, verdict.message)
            if verdict.decision is Decision.HOLD and isinstance(guard, ApprovalGuard):
                # The settings may ask for more people than the rule, or the rule for more: the stricter one counts.
                asking = guard if asking is None else asking.together(guard)
            elif verdict.decision is Decision.HOLD:
                until = await self._paused_until() if isinstance(guard, PauseGuard) else verdict.until
                self.held_about = verdict.about
                await self.hold(verdict.reason, verdict.message, until)
        if asking is not None:
            await self._ask_people(plan, ready, last, asking, approval)
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
            and (self.acted or approval.expires_at > self.now())
            and any(c["step"] == ready.index and c["digest"] == ready.digest for c in approval.changes)
        )

    async def _guard_context(self, plan: Plan, mode: Mode, granted: bool, ready: Ready | None) -> GuardContext:
        siblings, now = self.world.siblings(plan.rule), self.now()
        looking = mode is Mode.OBSERVE
        return GuardContext(
            run_id=self.run.id,
            rule=self.run.rule,
            mode=mode.value,
            now=now,
            labels=self.labels,
            severity=self.world.severity(plan.rule, self.labels),
            targets=self.run.targets,
            created_at=self.run.created_at,
            evidence=self.progress.get("evidence", {}),
            approved=granted,
            pauses={pause.scope: pause.reason for pause in await self.store.pauses()},
            incident_key=self.incident.key,
            service=plan.rule.service,
            siblings=siblings,
            all_targets=self.world.targets.keys(),
            change=_proposed(ready),
            facts=Recalled(self.store, self.run, self.incident, siblings, now, looking=looking),
        )

    async def _verdict(self, name: str, guard: Guard, context: GuardContext) -> Verdict:
        try:
            async with asyncio.timeout(_GUARD_SECONDS):
                verdict = await guard.check(context)
        except StoreUnavailable:
            raise  # Nothing was found out, and nothing is done: the run is taken up again when its lease is over.
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
        self, plan: Plan, ready: Ready, last: int, guard: ApprovalGuard, before: Approval | None
    ) -> None:
        now = self.now()
        if before is not None and before.state == "pending" and before.expires_at <= now:
            await self.stop(State.EXPIRED, "approval", "nobody answered in time")
        changes = [item.shown(self.step_id(item.index)) for item in await self._following(ready, last)]
        changes += [self._afterwards(index) for index in plan.final]
        digest = acting.sha256(canonical_json({"rule": plan.rule.digest, "changes": changes}))
        if before is not None and before.state == "pending" and before.digest == digest:
            await self.hold("approval", "waits for a person's yes to this change", before.expires_at)
        approval = Approval(
            id=self.engine.ids(),
            run_id=self.run.id,
            digest=digest,
            changes=changes,
            state="pending",
            needed=guard.people,
            requested_at=now,
            expires_at=now + guard.expires,
            barred=(f"user:{plan.rule.owner}",) if guard.four_eyes and plan.rule.owner else (),
        )
        message = f"waits for {approval.needed} yes: " + "; ".join(change["change"]["summary"] for change in changes)
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
            "needed": approval.needed,
            "barred": list(approval.barred),
            "was_granted": before is not None and before.state == "granted",
        }
        entry = self.entry("approval.requested", detail)
        self.run = await self.store.ask(run, approval, entry, follow=self.question(approval))
        crashpoint("approval.after_ask")
        _log.info("waits for approval", digest=approval.digest, expires_in=guard.expires)
        raise Stop

    def _afterwards(self, index: int) -> dict[str, Any]:
        """A final step as an approver sees it: the yes to the steps is a yes to what must follow them in any case."""
        step = self.script[index]
        summary = f"in any case afterwards: {step.uses or 'wait'}" + (f" on {step.target}" if step.target else "")
        return {
            "step": index,
            "id": self.step_id(index),
            "uses": step.uses,
            "target": step.target,
            "parameters": redact(dict(step.with_)),
            "change": {"summary": summary, "before": {}, "after": {}, "volatile": {}},
            "digest": "",
        }

    async def _observe(self, plan: Plan, trial: Trial) -> None:
        said, noes, limits = [], [], list[Limit]()
        first: Ready | None = None
        for index in trial.span:
            step = self.script[index]
            if step.wait is not None:
                said.append("wait")
                continue
            if "steps" in acting.roots_of(step):
                said.append(f"then {step.uses}, depending on what came before")
                break
            ready = await self._ready(index)
            said.append(ready.change.summary)
            first = first or (None if ready.change.empty else ready)
        context = await self._guard_context(plan, Mode.OBSERVE, True, first)
        for name, guard in [*BUILT_IN, *plan.guards]:
            verdict = await self._verdict(name, guard, context)
            if verdict.decision is not Decision.ALLOW:
                noes.append(verdict.message)
            limits += guard.limits(context)
        refusal = await self.store.within(limits, self.run, self.incident.key, self.run.targets)
        message = "would have done: " + "; ".join(said)
        if refusal is not None:
            noes.append(refusal.message)
        if noes:
            message += f" (but not now: {'; '.join(noes)})"
        await self.stop(State.OBSERVED, "observe", message)


def _proposed(ready: Ready | None) -> Proposed | None:
    if ready is None:
        return None
    return Proposed(
        uses=ready.step.uses,
        target=ready.step.target,
        subject=ready.action.subject(),
        summary=ready.shown_change["summary"],
        before=ready.shown_change["before"],
        after=ready.shown_change["after"],
    )
