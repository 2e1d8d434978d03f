"""Looks after money that no run looks after: closes transfers that are out, and holds the chain against the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from remediator.audit import Entry
from remediator.clock import Clock
from remediator.errors import ActionError, StoreUnavailable
from remediator.ledger import Books, Mismatch
from remediator.metrics import Metrics
from remediator.redact import redact
from remediator.store import Pause, Store
from remediator.target import Target

_log = structlog.get_logger("remediator.treasurer")
EVERY = 60.0
"""Seconds between two looks at what is out."""
COMPARED_EVERY = 3600.0
"""Seconds between two comparisons, of which the first is made at the start."""
_PATIENCE = 120.0
"""Seconds that one target may take."""


class Treasurer:
    """Settles and compares, for every target in force that holds a treasury."""

    def __init__(
        self, store: Store, targets: Callable[[], Mapping[str, Target]], *, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._targets = targets
        self._clock = clock
        self._metrics = metrics

    async def for_ever(self) -> None:
        """Look until cancelled."""
        compared: dict[str, float] = {}
        while True:
            try:
                await self.settle()
                now = self._clock.monotonic()
                last = {name: compared.get(name, now - COMPARED_EVERY) for name in self.treasuries()}
                for books in await self.compare([name for name, at in last.items() if now - at >= COMPARED_EVERY]):
                    # What could not be compared is tried again with the next look.
                    if not books.error:
                        compared[books.target] = now
            except StoreUnavailable as error:
                _log.warning("money cannot be looked after now; tried again", error=str(error))
            except Exception:  # noqa: BLE001 - logged, and this must go on.
                _log.exception("a bug while looking after money; tried again")
            await asyncio.sleep(EVERY)

    def treasuries(self) -> list[str]:
        """Names of the targets that can hold money."""
        targets = self._targets()
        return sorted(name for name, target in targets.items() if type(target).mismatches is not Target.mismatches)

    async def settle(self) -> None:
        """Close what is out and proven. Raises StoreUnavailable."""
        for name in self.treasuries():
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._targets()[name].settle_open(self._store, self._clock)
            except (ActionError, TimeoutError, KeyError) as error:
                _log.warning("what is out cannot be looked at now", target=name, error=redact(str(error)))

    async def compare(self, names: Collection[str]) -> list[Books]:
        """Hold the chain against the ledger; whatever differs pauses its target. Raises StoreUnavailable."""
        return [await self._compared(name) for name in names]

    async def _compared(self, name: str) -> Books:
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self._targets()[name].mismatches(self._store, self._clock)
        except (ActionError, TimeoutError, KeyError) as error:
            why = redact(str(error)) or "no answer in time"
            _log.warning("the books cannot be compared now", target=name, error=why)
            return Books(name, error=why)
        self._metrics.money_mismatches.labels(name).set(len(found))
        self._metrics.money_compared_timestamp_seconds.labels(name).set(self._clock.now())
        if found:
            await self._stop(name, found)
        return Books(name, tuple(found))

    async def _stop(self, name: str, found: Sequence[Mismatch]) -> None:
        """Pause the target, and record what differs; once, until a person has resumed it."""
        scope = f"target:{name}"
        if any(pause.scope == scope for pause in await self._store.pauses()):
            return
        told = [{"kind": each.kind, "signature": each.signature, "message": each.message} for each in found[:100]]
        _log.error("chain and ledger differ; the target is paused", target=name, count=len(found), first=told[0])
        detail = {"target": name, "count": len(found), "mismatches": told}
        await self._store.append(Entry(event="money.mismatch", actor="remediator", detail=detail))
        count = "1 payment differs" if len(found) == 1 else f"{len(found)} payments differ"
        reason = f"{count} between chain and ledger: {found[0].message}"
        await self._store.pause(Pause(scope, reason[:500], "remediator", self._clock.now(), None))
