"""People are called, one after the other, until somebody takes over or nobody is needed any more.

An escalation is a run of its own: it follows from the run that needs people in the very commit that says so, keeps the
policy as it was then, and goes on after any crash. Each message is licensed, recorded and tried again like any other
effect. Nothing that happens here ever changes the run that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from remediator import acting
from remediator.clock import format_duration, format_instant
from remediator.closing import Closing
from remediator.errors import InputError, NotFound
from remediator.escalation import Call, known, restored, snapshot
from remediator.expression import ExpressionError
from remediator.handover import hand_over
from remediator.moves import FAR, RECHECK, Moves, Stop, Untidy
from remediator.placeholder import MARK
from remediator.redact import redact
from remediator.rule import Rule, Step
from remediator.run import Kind, Lock, Run, State
from remediator.store import Approval

_log = structlog.get_logger("remediator.escalation")

_OURS = frozenset({"condition", "if", "mode", "rejected"})
"""Reasons of a denied run that its rule or the operator meant: nobody is needed."""
_BACKOFF, _SLOWEST = 10.0, 600.0
_AGAIN = 60.0
"""How often is looked whether a problem that began anew has ended; nothing wakes this run then."""
_OPEN = ("waiting", "failing")


def called(
    line: Moves, rule: Rule | None, to: State, reason: str, *, ends_with_alert: bool = True
) -> Sequence[Run]:
    """The escalation that follows when the run of ``line`` ends so: people are needed, and its rule names a policy.

    Where it does not end with the alert, people are needed although that has resolved.
    """
    needed = to in (State.FAILED, State.NEEDS_HUMAN, State.EXPIRED) or (to is State.DENIED and reason not in _OURS)
    # A problem that began anew has a run of its own, which is the one to call.
    if rule is None or not rule.escalate or not needed or reason == "superseded":
        return ()
    is_open = line.incident.open and ends_with_alert
    origin = {"state": to.value, "reason": reason, "open": is_open, "question": ""}
    return _begin(line, rule, rule.escalate, line.run.id, origin)


def held(line: Moves, rule: Rule | None, reason: str, about: str) -> Sequence[Run]:
    """The escalation that follows when a guard holds runs until people have looked: one, however many it holds."""
    if rule is None or not rule.escalate or not about:
        return ()
    origin = {"state": State.HELD.value, "reason": reason, "open": True, "question": ""}
    return _begin(line, rule, rule.escalate, about, origin)


def asked(line: Moves, rule: Rule, approval: Approval) -> Sequence[Run]:
    """The escalation that tells people about an open question, where the settings name a policy for that."""
    if not line.world.approvals_notify:
        return ()
    origin = {"state": State.HELD.value, "reason": "approval", "open": True, "question": approval.digest}
    return _begin(line, rule, line.world.approvals_notify, f"{line.run.id}/{approval.id}", origin)


def _begin(line: Moves, rule: Rule, name: str, about: str, origin: Mapping[str, Any]) -> Sequence[Run]:
    policy, now = line.world.escalations.get(name), line.now()
    if not policy:
        _log.error("people are needed, and the policy that names them is gone", policy=name, run=line.run.id)
        return ()
    severity = line.world.severity(rule, line.labels)
    progress = {
        "policy": name,
        "calls": snapshot(policy),
        "origin": {**origin, "run": line.run.id, "at": now, "severity": severity, "service": rule.service},
        "sends": [{"state": "waiting", "tries": 0, "next_at": now + call.after} for call in policy]
        + [{"state": "waiting", "tries": 0, "next_at": now} for _ in policy],
    }
    run = Run(
        id=line.engine.ids(),
        rule=line.run.rule,
        rule_digest=line.run.rule_digest,
        incident_id=line.run.incident_id,
        state=State.HELD,
        reason="escalating",
        message=f"people are needed ({origin['reason']}); {name} says whom to call",
        mode=line.run.mode,
        epoch=0,
        version=1,
        owner="",
        lease_until=0.0,
        wake_at=now,
        created_at=now,
        updated_at=now,
        due_at=now,
        locks=(),
        progress=progress,
        kind=Kind.ESCALATION,
        about=about,
    )
    return (run,)


class Escalating(Closing):
    """The line of a run that calls people."""

    calls: tuple[Call, ...]

    async def go(self) -> None:
        """Call whoever is due, and wait for the rest; ends by Stop, or by raising what the engine handles."""
        self.calls = restored(self.progress["calls"])
        self.script = [self._step(index) for index in range(2 * len(self.calls))]
        try:
            await self._bound_takeovers()
            for effect in [*self.effects]:
                if effect.state == "intent":
                    await self._recover(effect.step)
            while True:
                over = await self._over()
                index = await self._due(over)
                if index is None:
                    await self._rest(over)
                else:
                    await self._send(index, over)
        except Stop:
            return

    # what there is to send ------------------------------------------------------------------------------------------

    def _call(self, index: int) -> Call:
        """The call that a message belongs to: the first half are the calls, the second half that it is over."""
        return self.calls[index % len(self.calls)]

    def _sends(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = self.progress["sends"][index]
        return found

    def _set(self, index: int, **values: Any) -> None:
        sends = [*self.progress["sends"]]
        sends[index] = {**sends[index], **values}
        self.progress = {**self.progress, "sends": sends}

    def _step(self, index: int) -> Step:
        """A message as a step. What was filled in once is not looked at again: it holds texts of alerts."""
        call, kept = self._call(index), self._sends(index)
        return Step.model_validate(
            {
                "id": f"{'over' if index >= len(self.calls) else 'call'}{index % len(self.calls)}",
                "uses": kept.get("uses", call.uses),
                "target": call.target,
                "with": _protected(kept.get("with", {})),
                "timeout": format_duration(call.timeout),
            }
        )

    def _was_sent(self, index: int) -> bool:
        return bool(self._sends(index)["state"] == "sent")

    def _takes_back(self, index: int) -> bool:
        """Whether there is something to send about call ``index`` when it is over."""
        call = self.calls[index]
        if not self._was_sent(index) or call.on_resolve is False:
            return False
        return isinstance(call.on_resolve, Mapping) or "inverse" in self.step(index)

    # whether it is over ---------------------------------------------------------------------------------------------

    async def _over(self) -> str:
        """Why nobody is needed any more; empty while somebody is."""
        origin = self.progress["origin"]
        if origin["question"]:
            approval = await self.store.approval(origin["run"])
            if approval is None or approval.digest != origin["question"]:
                return "the question is no longer asked"
            if approval.state != "pending":
                return f"the question is {approval.state}"
            return "the question has expired" if approval.expires_at <= self.now() else ""
        if not origin["open"]:
            return ""  # It had ended already when people were needed: its end is no reason not to need them.
        latest = await self.store.latest(self.incident.key) or self.incident
        return "the alert has resolved" if not latest.open and not latest.superseded else ""

    async def _due(self, over: str) -> int | None:
        """The next message to send now, or None."""
        now, count = self.now(), len(self.calls)
        if over:
            await self._stop_calling("not called: " + over)
            wanted = [count + index for index in range(count) if self._takes_back(index)]
        elif "acknowledged" in self.progress:
            await self._stop_calling(f"not called: {self.progress['acknowledged']['actor']} has taken over")
            wanted = []
        else:
            wanted = [index for index in range(count) if self._wanted(index, now)]
        due = [
            index for index in wanted if self._sends(index)["state"] in _OPEN and self._sends(index)["next_at"] <= now
        ]
        return min(due, key=lambda index: (self._sends(index)["next_at"], index), default=None)

    async def _stop_calling(self, why: str) -> None:
        for index in range(len(self.calls)):
            if self._sends(index)["state"] in _OPEN:
                self._set(index, state="stopped", message=why)

    def _wanted(self, index: int, now: float) -> bool:
        """Whether the time of a call has come and its condition, asked once, holds. What cannot be told is a yes."""
        send, origin = self._sends(index), self.progress["origin"]
        if send["state"] not in _OPEN or now < send["next_at"]:
            return False
        if send["state"] == "failing":
            return True
        try:
            expression = self.calls[index].expression()
            seen = {"labels": dict(self.labels), "annotations": dict(self.incident.annotations)}
            seen |= {name: origin[name] for name in ("severity", "service", "state", "reason")}
            if expression is None or expression.evaluate(seen):
                return True
        except ExpressionError as error:
            # For an action a condition that cannot be told is a no; for a call for help it is a yes.
            _log.warning("whether to call cannot be told, so it is done", error=str(error))
            return True
        self._set(index, state="skipped", message=f"not so: {expression.source}")
        return False

    # sending --------------------------------------------------------------------------------------------------------

    async def _recover(self, index: int) -> None:
        self.tidying = True
        try:
            effect = next(each for each in self.effects if each.state == "intent" and each.step == index)
            await acting.recover(self, effect)
            if self.step(index)["state"] in ("applied", "done"):
                await self._told(index)
        except Untidy as error:
            await self._failed(index, error)
        finally:
            self.tidying = False

    async def _send(self, index: int, over: str) -> None:
        self.tidying = True
        try:
            await self._freeze(index, over)
            if self.step(index)["state"] != "done":
                ready = await self._ready(index)
                if ready.change.empty:
                    self._already(ready)
                else:
                    await acting.same_key(self, ready)
                    await acting.act(self, ready, await self._clear(ready))
            await self._told(index)
        except Untidy as error:
            await self._failed(index, error)
        finally:
            self.tidying = False

    async def _freeze(self, index: int, over: str) -> None:
        """Fill the message in, once: a key that may have been used is never sent with other words."""
        if "with" in self._sends(index):
            return
        call, resolved = self._call(index), index >= len(self.calls)
        if resolved and not isinstance(call.on_resolve, Mapping):
            inverse = self.step(index % len(self.calls))["inverse"]
            self._set(index, uses=inverse["uses"], **{"with": inverse["with"]})
        else:
            try:
                given = call.parameters(await self._known(over), resolved=resolved)
            except InputError as error:
                raise Untidy(State.FAILED, "parameters", str(error)) from None
            self._set(index, **{"with": redact(given)})
        self.script[index] = self._step(index)

    async def _known(self, over: str) -> dict[str, Any]:
        origin, now = self.progress["origin"], self.now()
        run, rule = await self._origin(), await self._rule()
        message = hand_over(
            run, self.incident, rule, severity=origin["severity"], external_url=self.world.external_url, now=now
        )
        return known(
            labels=redact(dict(self.labels)),
            annotations=redact(dict(self.incident.annotations)),
            severity=origin["severity"],
            service=origin["service"],
            state=origin["state"],
            reason=over or origin["reason"],
            handover=message.fields(),
            approval=_question(await self.store.approval(run.id) if origin["question"] else None),
            run={
                "id": run.id,
                "rule": run.rule,
                "service": origin["service"],
                "owner": rule.owner if rule else "",
                "runbook_url": rule.runbook_url if rule else "",
            },
        )

    async def _origin(self) -> Run:
        """The run that needs people; this one in its place, once retention has removed it."""
        try:
            return await self.store.run(self.progress["origin"]["run"])
        except NotFound:
            return self.run

    def holds_lock(self, lock: Lock) -> bool:
        """Nobody waits for a target to be free in order to call for help."""
        return True

    async def _told(self, index: int) -> None:
        """A message was taken: remember it."""
        outcome = (self.step(index).get("outcome") or {}).get("summary", "")
        self._set(index, state="sent", sent_at=self.now(), tries=self._sends(index)["tries"] + 1, message=outcome)
        self._count(index, "sent")
        await self._keep("notification.sent", index)

    async def _failed(self, index: int, error: Untidy) -> None:
        """A message could not be sent: later again, until its time is over."""
        now, call, send = self.now(), self._call(index), self._sends(index)
        tries, since = send["tries"] + 1, send.get("since", now)
        values = {"tries": tries, "since": since, "message": error.message}
        if self.step(index)["state"] == "unknown" or error.to is State.NEEDS_HUMAN:
            # Its action may not be repeated, so nobody knows, and that is said.
            self._set(index, state="unknown", **values)
            outcome = "unknown"
        elif now - since >= call.give_up:
            self._set(index, state="failed", **values)
            outcome = "given_up"
        else:
            pause = min(_BACKOFF * 2 ** (tries - 1), _SLOWEST)
            self._set(index, state="failing", next_at=now + pause, **values)
            outcome = "failed"
        self._count(index, outcome)
        _log.error("a message could not be sent", call=call.name, uses=call.uses, outcome=outcome, error=error.message)
        await self._keep("notification.failed", index)

    def _count(self, index: int, outcome: str) -> None:
        self.engine.metrics.notifications_total.labels(self.script[index].uses, outcome).inc()

    async def _keep(self, event: str, index: int) -> None:
        """Write down what became of a message."""
        call, send = self._call(index), self._sends(index)
        detail = {
            "about": self.run.about,
            "call": call.name or f"call {index % len(self.calls) + 1}",
            "uses": self.script[index].uses,
            "target": call.target,
            "over": index >= len(self.calls),
            **{key: send[key] for key in ("state", "tries", "message")},
        }
        moved = self.run.move(
            State.RUNNING, "escalating", self.run.message, now=self.now(), progress=redact(self.progress)
        )
        self.run = await self.store.save(moved, self.entry(event, detail))

    # waiting and ending ---------------------------------------------------------------------------------------------

    async def _rest(self, over: str) -> None:
        """Nothing is due: wait for what comes next, or end."""
        count, now = len(self.calls), self.now()
        open_calls = [index for index in range(count) if self._sends(index)["state"] in _OPEN]
        backs = [count + index for index in range(count) if self._takes_back(index)]
        open_backs = [index for index in backs if self._sends(index)["state"] in _OPEN]
        if over:
            if open_backs:
                await self._until(min(self._sends(index)["next_at"] for index in open_backs), "it is over")
            await self._end("resolved" if over == "the alert has resolved" else "answered", over)
        polls = bool(self.progress["origin"]["question"])
        if open_calls:
            following = min(open_calls, key=lambda index: self._sends(index)["next_at"])
            at = self._sends(following)["next_at"]
            who = self.calls[following].name or self.calls[following].uses
            await self._until(min(at, now + RECHECK) if polls else at, f"next: {who} at {format_instant(at)}")
        acknowledged = self.progress.get("acknowledged")
        if not open_backs or not (self.progress["origin"]["open"] or polls):
            if acknowledged:
                await self._end("acknowledged", f"{acknowledged['actor']} has taken over")
            await self._end("all_called", "everybody was called")
        why = f"{acknowledged['actor']} has taken over" if acknowledged else "everybody was called"
        await self._until(now + RECHECK if polls else FAR, f"{why}; they are told when it is over")

    async def _until(self, until: float, message: str) -> None:
        if not self.incident.open and until > self.now() + _AGAIN and self.progress["origin"]["open"]:
            until = self.now() + _AGAIN
        await self.hold("escalating", message, until)

    async def _end(self, reason: str, message: str) -> None:
        lost = [send for send in self.progress["sends"] if send["state"] in ("failed", "unknown")]
        if lost:
            told = "; ".join(send["message"] for send in lost)
            await self.end(State.FAILED, "not_delivered", f"{message}, but {len(lost)} could not be told: {told}")
        await self.end(State.SUCCEEDED, reason, message)


def _protected(value: Any) -> Any:
    """``value`` so that placeholders, which stand in texts of alerts here, are texts."""
    if isinstance(value, str):
        return value.replace(MARK, "$" + MARK)
    if isinstance(value, Mapping):
        return {key: _protected(item) for key, item in value.items()}
    return [_protected(item) for item in value] if isinstance(value, list) else value


def _question(approval: Approval | None) -> dict[str, Any]:
    """What ``${{ approval.… }}`` finds; nothing to press where nothing is asked."""
    if approval is None:
        return {"ask": None, "digest": "", "expires": "", "summary": ""}
    changes = "\n".join(
        f"{change['id']}: {change['uses']} on {change['target']}: {change['change']['summary']}\n"
        f"  before: {change['change']['before']}\n  after:  {change['change']['after']}"
        for change in approval.changes
    )
    return {
        "ask": {"run": approval.run_id, "digest": approval.digest, "expires_at": approval.expires_at},
        "digest": approval.digest,
        "expires": format_instant(approval.expires_at),
        "summary": f"{changes}\nneeds {approval.needed} yes, until {format_instant(approval.expires_at)}\n"
        f"digest {approval.digest}",
    }
