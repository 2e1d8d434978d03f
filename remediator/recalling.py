"""What guards may recall of the durable record: the questions of facts.py, answered by the store for one run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from remediator.action import canonical_json
from remediator.errors import NotFound
from remediator.facts import Announced, FiringAlert, GuardState, Of, OpenedRun, PastChange, PastRun
from remediator.incident import Incident
from remediator.matcher import Matcher, parse_matchers
from remediator.run import Run
from remediator.store import Store

T = TypeVar("T")
_RUNS = 100
_OPENED = 2000
_MOST = 500
"""Changes and incidents that one answer may be made of; more raise, and a guard that raises denies."""


class Recalled:
    """``Facts`` by a store. ``looking`` is for observe mode: nothing is opened or closed, only told."""

    def __init__(
        self, store: Store, run: Run, incident: Incident, siblings: Sequence[str], now: float, *, looking: bool
    ) -> None:
        self._store = store
        self._run = run
        self._key = incident.key
        self._members = incident.members.keys()
        self._siblings = siblings
        self._now = now
        self._looking = looking

    async def past_runs(self, of: Of, since: float) -> Sequence[PastRun]:
        """Other runs with a licence, those that go on first."""
        known: dict[str, Sequence[str]] = {
            "rule": (self._run.rule,),
            "incident": (self._key,),
            "target": self._run.targets,
            "service": self._siblings,
        }
        return await self._store.past_runs(of, known.get(of, ()), since, self._run.id, _RUNS)

    async def past_changes(self, target: str, since: float) -> Sequence[PastChange]:
        """What other runs were licensed to change. Raises OverflowError when there are too many to compare."""
        return _whole(await self._store.past_changes(target, since, self._run.id, _MOST + 1), f"changes on {target}")

    async def lives(self, most: int) -> Sequence[float]:
        """When the newest incidents of this problem began."""
        return await self._store.lives(self._key, most)

    async def opened(self, since: float) -> Sequence[OpenedRun]:
        """The newest runs that were opened."""
        return await self._store.opened(since, _OPENED)

    async def opened_count(self, since: float, until: float) -> int:
        """How many incidents had runs opened in between."""
        return await self._store.opened_count(since, until)

    async def targets_firing(self) -> frozenset[str]:
        """Targets of the runs of open incidents."""
        return await self._store.targets_firing()

    async def firing(self, matchers: Sequence[str]) -> Sequence[FiringAlert]:
        """Alerts that fire and match. Raises OverflowError when too many might."""
        asked = _asked(tuple(matchers))
        incidents = await self._store.firing([text for m in asked if (text := _text(m))], _MOST + 1)
        return [
            FiringAlert(member.labels, member.min_start, incident.seen_at)
            for incident in _whole(incidents, "incidents to look through")
            if incident.key != self._key
            for name, member in incident.members.items()
            # The same alert may be part of another rule's group, and is no other alert there.
            if member.ended_at is None
            and name not in self._members
            and all(matcher.matches(member.labels) for matcher in asked)
        ]

    async def announced(self, alert: str) -> Sequence[Announced]:
        """Which other runs had announced an alert when this run was opened."""
        return await self._store.announced(alert, self._run.created_at, self._run.id)

    async def state(self, guard: str, scope: str) -> GuardState | None:
        """What a guard keeps."""
        return next((state for state in await self._store.guard_states(guard) if state.scope == scope), None)

    async def open(self, guard: str, scope: str, why: str, until: float | None = None) -> GuardState:
        """Open it, or lengthen what is open."""
        wanted = GuardState(guard, scope, True, self._now, until, why, "remediator")
        return wanted if self._looking else await self._store.open_guard(wanted)

    async def close(self, guard: str, scope: str, why: str) -> None:
        """Close it by itself."""
        if not self._looking:
            with suppress(NotFound):  # Somebody else has closed it in the meantime.
                await self._store.close_guard(guard, scope, "remediator", why)


def _whole(found: Sequence[T], what: str) -> Sequence[T]:
    if len(found) > _MOST:
        raise OverflowError(f"more than {_MOST} {what}")
    return found


@lru_cache(maxsize=1024)
def _asked(texts: tuple[str, ...]) -> tuple[Matcher, ...]:
    return tuple(matcher for text in texts for matcher in parse_matchers(text))


def _text(matcher: Matcher) -> str:
    """What the JSON of an alert's labels holds if the matcher matches; nothing where that cannot be said."""
    if matcher.operator != "=" or not matcher.value:
        return ""
    return canonical_json({matcher.name: matcher.value})[1:-1]
