"""Advances one run: gives it to the line of its kind and catches what escapes from there.

The line of a run that carries out a rule is line.py, that of a temporary change which goes back is reverting.py,
that of people who are called is escalating.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.errors import Lost, StoreUnavailable
from remediator.escalating import Escalating
from remediator.ids import Ids
from remediator.line import Line
from remediator.metrics import Metrics
from remediator.moves import FAR, RECHECK, Lease, Means
from remediator.reverting import Reverting
from remediator.run import Kind
from remediator.store import Claim, Store
from remediator.world import World

_log = structlog.get_logger("remediator.engine")

_LINES: Mapping[Kind, Callable[[Means, Claim, Lease], Line | Reverting | Escalating]] = {
    Kind.REMEDY: Line,
    Kind.REVERT: Reverting,
    Kind.ESCALATION: Escalating,
}
"""What carries out each kind of run."""


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
        line = _LINES[claim.run.kind](self, claim, lease)
        with structlog.contextvars.bound_contextvars(run=claim.run.id, rule=claim.run.rule):
            try:
                crashpoint("worker.after_claim")
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


__all__ = ["FAR", "RECHECK", "Engine", "Lease", "Line"]
