"""The way back of a temporary change: a run that waits, and puts the value back when it is safe or its time is over.

It is created together with the outcome of the change, so that no crash can lose it, and waits as a held run. It acts
only if the value is still the one that the change left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from remediator import acting, escalating
from remediator.clock import format_duration, format_instant
from remediator.closing import NOT_OURS, Closing
from remediator.crashpoint import crashpoint
from remediator.errors import Conflict
from remediator.expression import LEASE, Expression
from remediator.incident import Incident
from remediator.moves import Moves, Over, Stop, Untidy
from remediator.planning import needed
from remediator.rule import Mode, Rule, Step
from remediator.run import LIVE, Kind, Lock, Run, State
from remediator.store import EffectRow

_MISSED = 3
"""So many looks in a row may be missing before what a lease waits for counts from the beginning."""
_SOON = 5.0
"""How long to wait for another change that is just going back, in seconds."""
_LATER = 300.0
"""How long to wait for what has no known end before looking again, in seconds."""
_LOOK = 60.0
"""How often to look whether the condition of a lease holds, in seconds, where the rule does not say."""


def way_back(line: Moves, index: int, step: Step, subject: str) -> Run:
    """The run that puts back what the step at ``index`` of ``line`` has just changed."""
    if step.lease is None:
        raise ValueError("a change that stays needs no way back")
    crashpoint("revert.before_create")
    now, known = line.now(), line.step(index)
    target = line.world.targets[step.target]
    deadline = now + step.lease.at_most
    change = {
        "step": index,
        "id": line.step_id(index),
        "made_at": now,
        "made_by": step.uses,
        "change": known["change"],
        "uses": known["inverse"]["uses"],
        "with": known["inverse"]["with"],
        "target": step.target,
        "settle": step.lease.settle,
        "until": step.lease.until,
        "every": step.lease.every or _LOOK,
        "deadline": deadline,
        "timeout": format_duration(step.timeout),
    }
    return Run(
        id=line.engine.ids(),
        rule=line.run.rule,
        rule_digest=line.run.rule_digest,
        incident_id=line.run.incident_id,
        state=State.HELD,
        reason="in_force",
        message=f"{known['change']['summary']}; goes back at the latest at {format_instant(deadline)}",
        mode=line.run.mode,
        epoch=0,
        version=1,
        owner="",
        lease_until=0.0,
        # It looks once at once: the alert may have ended while the change was being made, and nobody tells it twice.
        wake_at=now,
        created_at=now,
        updated_at=now,
        due_at=deadline,
        locks=(Lock(step.target, subject, target.max_runs),),
        progress={"change": change},
        kind=Kind.REVERT,
        about=f"{line.run.id}/{index}",
    )


class Reverting(Closing):
    """The line of a run that puts one change back."""

    planned_by: Rule | None = None
    """The rule of the change, once it is needed to call people."""

    async def go(self) -> None:
        """Wait, put back, and say what came of it; ends by Stop, or by raising what the engine handles."""
        kept = self.progress["change"]
        raw = {key: kept[key] for key in ("uses", "with", "target", "timeout")}
        self.script = [Step.model_validate({**raw, "id": "back", "retry": {"attempts": 10, "backoff": "30s"}})]
        try:
            await self._bound_takeovers()
            try:
                for effect in [*self.effects]:
                    if effect.state == "intent":
                        await self._recover(effect)
                if not self.acted:
                    await self._due()
                crashpoint("revert.before_back")
                with contextlib.suppress(Over):
                    await self._in_order(0)
                crashpoint("revert.after_back")
            except Untidy as error:
                await self._not_back(error)
            await self._back()
        except Stop:
            return

    async def _recover(self, effect: EffectRow) -> None:
        self.tidying = True
        try:
            await acting.recover(self, effect)
        finally:
            self.tidying = False

    async def _due(self) -> None:
        """Returns when the change may go back now; otherwise the run is held until it may."""
        change = self.progress["change"]
        if "asked" not in self.progress and self.now() < change["deadline"]:
            latest = await self.store.latest(self.incident.key) or self.incident
            if change.get("until") is None:
                await self._resolved_so_long(change, latest)
            else:
                await self._so_so_long(change, latest)
        if self.world.mode_max is Mode.OBSERVE:
            await self._stay("rules may only observe now", self.now() + _LATER, bounded=False)
        await self._newest_first()

    async def _resolved_so_long(self, change: Mapping[str, Any], latest: Incident) -> None:
        """Returns when the alert has stayed resolved for the settle time."""
        now, ended = self.now(), latest.ended_at
        safe = (now if ended is None else ended) + change["settle"]
        if ended is None and not self.incident.open:
            # Its end has been seen already, and nothing tells when this new life of the problem ends.
            await self._stay("the alert fires again", min(safe, change["deadline"]))
        if ended is None:
            await self._stay("the alert fires", change["deadline"])
        if now < safe:
            settle = format_duration(change["settle"])
            await self._stay(f"the alert must stay resolved for {settle}", min(safe, change["deadline"]))

    async def _so_so_long(self, change: Mapping[str, Any], latest: Incident) -> None:
        """Returns when the condition of the lease has held for the settle time, seen at every look."""
        until, every, settle = change["until"], change["every"], change["settle"]
        held: dict[str, float] = {**self.progress.get("held", {})}
        answer, why = await self._looked(until, latest)
        now = self.now()
        if not answer:
            held = {}
        elif not held or now - held["seen"] > every * _MISSED:
            # Nobody looked for a while, and what nobody saw has not held.
            held = {"since": now, "seen": now}
        else:
            held["seen"] = now
        self.progress = {**self.progress, "held": held}
        soon = min(now + every, held["since"] + settle) if held else now + every
        if not held or now - held["since"] < settle:
            told = f"until this has held for {format_duration(settle)}: {until}" if held else why
            await self._stay(told, min(soon, change["deadline"]))

    async def _looked(self, until: str, latest: Incident) -> tuple[bool, str]:
        """Whether a condition holds now, by probes that look anew at the newest life of the problem; and why not."""
        rule = await self._rule()
        if rule is None or rule.digest != self.run.rule_digest:
            return False, "the rule that the change was made by cannot be read any more"
        ids = [probe.id for probe in rule.probes]
        condition = Expression.compile(until, LEASE, probes=ids)
        self.incident, self.labels = latest, latest.common_labels
        # For hours, every minute: only what it asks for.
        await self._probe(needed(rule.probes, condition.reads(ids)))
        return self._ask(condition)

    async def _newest_first(self) -> None:
        """What was changed later on the same thing goes back first: it remembers the value that this change left."""
        made = self.progress["change"]["made_at"]
        others = await self.store.runs(kinds=(Kind.REVERT,), states=tuple(LIVE), limit=1000)
        for other in others:
            theirs = other.progress["change"]
            if other.id == self.run.id or (theirs["made_at"], other.id) <= (made, self.run.id):
                continue
            same = any(a.overlaps(b) for a in self.run.locks for b in other.locks)
            beside = await self._beside(other)
            if same or beside:
                message = f"{theirs['change']['summary']}, which was done later, goes back first"
                soon = beside or other.wake_at <= self.now()
                await self.hold("in_force", message, self.now() + (_SOON if soon else _LATER))

    async def _beside(self, other: Run) -> bool:
        """Whether the change of ``other`` was made by the same run and goes back at the same time, so before this."""
        if other.about.partition("/")[0] != self.run.about.partition("/")[0]:
            return False
        if other.wake_at <= self.now():
            return True
        mine, theirs = ((c["made_at"], c["deadline"]) for c in (self.progress["change"], other.progress["change"]))
        # Both may stay equally long: the one that was made later goes with this one, and not that little bit later.
        together = bool(self.now() >= mine[1] and theirs[1] - theirs[0] <= mine[1] - mine[0] + 0.001)
        if together:
            with contextlib.suppress(Conflict):
                await self.store.hasten(other.id, "remediator", "what was done before it in the same run goes back now")
        return together

    async def _stay(self, why: str, until: float, *, bounded: bool = True) -> None:
        deadline = format_instant(self.progress["change"]["deadline"])
        summary = self.progress["change"]["change"]["summary"]
        end = f"; goes back at the latest at {deadline}" if bounded else ""
        await self.hold("in_force", f"{summary}; {why}{end}", until)

    def follow(self, to: State, reason: str, message: str) -> Sequence[Run]:
        """People are called when a change stays that was meant to be temporary, also when the alert is long over."""
        rule = self.planned_by or self.world.rules.get(self.run.rule)
        return escalating.called(self, rule, to, reason, ends_with_alert=False)

    async def _not_back(self, error: Untidy) -> None:
        self.planned_by = await self._rule()
        summary = self.progress["change"]["change"]["summary"]
        if error.reason == NOT_OURS:
            message = f"not put back ({summary}): somebody else has changed it since: {error.message}"
            await self.end(State.CANCELLED, "not_ours", message)
        to = State.NEEDS_HUMAN if error.to is State.NEEDS_HUMAN else State.FAILED
        await self.end(to, error.reason, f"could not be put back ({summary}): {error.message}")

    async def _back(self) -> None:
        summary = self.progress["change"]["change"]["summary"]
        if not self.acted:
            await self.end(State.SUCCEEDED, "already_back", f"it is as it was before already: {summary}")
        asked = self.progress.get("asked")
        late = self.now() >= self.progress["change"]["deadline"]
        until = self.progress["change"].get("until")
        held = "the alert stayed resolved" if until is None else f"this has held long enough: {until}"
        why = "its time was over" if late else held
        if asked:
            why = f"{asked['actor']} asked for it"
        await self.end(State.SUCCEEDED, "reverted", f"put back ({summary}): {why}")
