"""``storm``: when too much is wrong at once, the cause is not where the alerts are, and people must look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from remediator.clock import Duration, format_duration
from remediator.facts import OpenedRun
from remediator.guard import Guard, GuardContext, Limit, Verdict

_DAY = 86400.0
_SCOPE = "global"


class Measured(NamedTuple):
    """What was seen: why it is a storm (or nothing), and until when it is not calm if nothing more comes."""

    why: str
    until: float


class Storm(Guard):
    """Holds every run while a storm is on: very many new problems, many targets, or many rules at once.

    A storm that was seen is kept durably, is the same for all rules and replicas, and is over once everything has been
    below half for ``calm``, or when a person says so (``remediator guard release storm``). Until it can be told from a
    few alerts, at most ``effects`` runs act within ``per``. Meant for the settings, where it stands before every rule.
    """

    within: Duration = Field(default=300.0, gt=0, description="What counts as at once.")
    incidents: int = Field(default=10, ge=2, description="So many new problems `within` are a storm,")
    times: float = Field(default=5.0, ge=1, description="if that is also more than so many times the mean of a day.")
    share: float = Field(default=0.3, gt=0, le=1, description="So large a share of all targets firing is a storm,")
    targets: int = Field(default=4, ge=1, description="if it is also at least so many targets.")
    rules: int = Field(default=4, ge=2, description="So many rules with new problems `within` are a storm.")
    calm: Duration = Field(default=900.0, gt=0, description="How long all must stay below half until it is over.")
    effects: int = Field(default=3, ge=1, description="How many runs may act `per`, storm or not, of all rules.")
    per: Duration = Field(default=60.0, gt=0, description="For `effects`.")
    exempt: list[str] = Field(default_factory=list, description="Rules that are not held; they count nevertheless.")

    async def check(self, context: GuardContext) -> Verdict:
        """Allow, or hold with reason ``storm`` until it may be over."""
        if context.rule in self.exempt:
            return Verdict.allow()
        kept = await context.facts.state("storm", _SCOPE)
        if kept is not None and kept.open and kept.until is not None and context.now < kept.until:
            return _held(kept.why, kept.since, kept.until)
        is_open = kept is not None and kept.open
        # What came before a person said that it is over does not make it a storm again.
        released = kept.since if kept is not None and not kept.open else 0.0
        seen = await self._measure(context, released, is_open)
        if not seen.why and not (is_open and seen.until > context.now):
            if is_open:
                await context.facts.close("storm", _SCOPE, f"below half for {format_duration(self.calm)}")
            return Verdict.allow()
        why = seen.why or (kept.why if kept is not None else "")
        state = await context.facts.open("storm", _SCOPE, why, seen.until)
        return _held(state.why, state.since, max(seen.until, state.until or 0.0))

    def limits(self, context: GuardContext) -> Sequence[Limit]:
        """The brake for the first moments, in which nobody can know that it is a storm."""
        if context.rule in self.exempt:
            return ()
        return (Limit(guard="storm_brake", scope="global", runs=self.effects, window=self.per),)

    async def _measure(self, context: GuardContext, released: float, is_open: bool) -> Measured:
        now, back = context.now, self.within + self.calm
        opened = [run for run in await context.facts.opened(max(now - back, released)) if run.at > released]
        lately = [run for run in opened if run.at > now - self.within]
        whys, untils = [], [0.0]
        new, rules = _newest(opened, "incident_id"), _newest(opened, "rule")
        count = sum(at > now - self.within for at in new)
        if count >= self.incidents or is_open:
            most = max(self.incidents, math.floor(self.times * await self._usual(context)) + 1)
            if count >= most:
                whys.append(f"{count} new problems within {format_duration(self.within)}")
            untils.append(self._calm_at(new, math.ceil(most / 2)))
        of = len({run.rule for run in lately})
        if of >= self.rules:
            whys.append(f"{of} rules have new problems within {format_duration(self.within)}")
        untils.append(self._calm_at(rules, math.ceil(self.rules / 2)))
        firing = len(await context.facts.targets_firing() & frozenset(context.all_targets))
        bound = max(self.share * len(context.all_targets), self.targets - 1)
        # A share does not fall because a person has looked: after a release only something new begins a storm.
        if firing > bound and (lately or not released):
            whys.append(f"{firing} of {len(context.all_targets)} targets fire")
        if firing > bound or (is_open and firing > bound / 2):
            untils.append(now + self.calm)
        return Measured("; ".join(whys), max(untils))

    async def _usual(self, context: GuardContext) -> float:
        """The mean number of new problems in a stretch of ``within``, over the day before the present one."""
        until = context.now - self.within
        return await context.facts.opened_count(until - _DAY, until) * self.within / _DAY

    def _calm_at(self, newest: Sequence[float], half: int) -> float:
        """When it will have been below ``half`` for long enough, if nothing more comes: times are newest first."""
        return newest[half - 1] + self.within + self.calm if len(newest) >= half else 0.0

    def looks_back(self) -> float:
        """The day that tells what is usual."""
        return _DAY + self.within


def _newest(opened: Sequence[OpenedRun], field: str) -> list[float]:
    """When each incident was first seen, or each rule last had a new one; newest first."""
    found: dict[str, float] = {}
    for run in opened:  # newest first
        name = getattr(run, field)
        if field == "incident_id" or name not in found:
            found[name] = run.at
    return sorted(found.values(), reverse=True)


def _held(why: str, since: float, until: float) -> Verdict:
    return Verdict.hold("storm", f"a storm: {why}; people must look", until, about=f"storm:{since:.3f}")
