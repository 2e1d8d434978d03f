"""Removes history that is older than the settings keep, a little at a time, beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from remediator.clock import format_duration
from remediator.errors import StoreUnavailable
from remediator.guard import GuardContext
from remediator.planning import make_guard
from remediator.rule import Registry, Rule
from remediator.store import Pruned, Store

_log = structlog.get_logger("remediator.retention")
FIRST, EVERY = 600.0, 3600.0
"""Seconds before the first removal and between two: a host that boots with a wrong date has set it by then."""
BATCH, PAUSE = 200, 0.05
"""Rows of a kind in one commit, and seconds in which the others can commit before the next one."""

_ANY = GuardContext(
    run_id="", rule="", mode="", now=0.0, labels={}, severity="", targets=(), created_at=0.0, evidence={},
    approved=False, pauses={},
)  # fmt: skip


def longest_window(rules: Iterable[Rule], registry: Registry, more_guards: Sequence[Mapping[str, Any]] = ()) -> float:
    """How far back the guards of these rules look, in seconds."""
    entries = [*more_guards, *(entry for rule in rules for entry in rule.guards)]
    guards = [make_guard(entry, registry)[1] for entry in entries]
    windows = [limit.window for guard in guards for limit in guard.limits(_ANY)]
    return max([*windows, *(guard.looks_back() for guard in guards)], default=0.0)


class Retention:
    """Removes what is over and older than ``keep()`` says; None keeps everything."""

    def __init__(self, store: Store, keep: Callable[[], Awaitable[float | None]]) -> None:
        self._store = store
        self._keep = keep

    async def for_ever(self) -> None:
        """Remove now and then until cancelled."""
        await asyncio.sleep(FIRST)
        while True:
            try:
                await self.once()
            except StoreUnavailable as error:
                _log.warning("old history could not be removed; tried again later", error=str(error))
            await asyncio.sleep(EVERY)

    async def once(self) -> int:
        """Remove everything that is old by now; how many rows it was. Raises StoreUnavailable."""
        keep = await self._keep()
        if keep is None:
            return 0
        done: list[Pruned] = []
        while not done or done[-1].more:
            if done:
                await asyncio.sleep(PAUSE)
            done.append(await self._store.prune(keep, BATCH))
        names = ("deliveries", "runs", "effects", "incidents", "records")
        totals = {name: sum(getattr(one, name) for one in done) for name in names}
        if any(totals.values()):
            _log.info("old history was removed", kept=format_duration(keep), **totals)
        if done[-1].doubt:
            _log.error("old records of the audit stay", doubt=done[-1].doubt)
        return sum(totals.values())
