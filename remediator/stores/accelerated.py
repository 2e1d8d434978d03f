"""A store with Redis beside it: every answer is the store's own, and Redis only makes some of them come sooner.

Redis holds nothing that anybody believes. Over it replicas tell each other that something may be due (``wake``) and
that something was committed (``news``), without saying what; and it remembers which runs were licensed lately, so that
a licence which a limit will refuse can be refused by a read, without the locks of the licence transaction. Losing,
flushing, freezing or restoring it costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

from remediator.arrival import Arrival, Receipt
from remediator.facts import GuardState
from remediator.metrics import Metrics
from remediator.run import Found, Run
from remediator.store import Claim, Licence, LicenceRequest, Pause, Refusal, Store
from remediator.stores import _redis_limits
from remediator.stores._redis import RedisLink

P = ParamSpec("P")
R = TypeVar("R")
WAKE, NEWS = "wake", "news"


class AcceleratedStore:
    """``Store`` by another store, the truth, with Redis at ``url`` beside it.

    ``owner`` names this process among its replicas. ``timeout`` (seconds) bounds what any verb waits for Redis. Every
    key and channel begins with ``prefix``: installations that share a server need one each. The verbs raise what those
    of ``store`` raise, and nothing more.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        *,
        owner: str,
        metrics: Metrics,
        password_file: str = "",
        timeout: float = 0.3,
        prefix: str = "remediator",
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._callbacks: dict[str, list[Callable[[], None]]] = {WAKE: [], NEWS: []}
        self._redis = RedisLink(
            url,
            owner=owner,
            password_file=password_file,
            timeout=timeout,
            prefix=prefix,
            channels=(WAKE, NEWS),
            heard=self._heard,
            metrics=metrics,
        )
        # What nobody waits for is the store's own verb.
        self.ping = store.ping
        self.rule_body = store.rule_body
        self.renew = store.renew
        self.within = store.within
        self.next_due = store.next_due
        self.run = store.run
        self.runs = store.runs
        self.effects = store.effects
        self.incident = store.incident
        self.incidents = store.incidents
        self.incidents_of = store.incidents_of
        self.latest = store.latest
        self.approval = store.approval
        self.pauses = store.pauses
        self.audit = store.audit
        self.audit_stream = store.audit_stream
        self.backlog = store.backlog
        self.counts = store.counts
        self.tally = store.tally
        self.prune = store.prune
        self.transfer_of = store.transfer_of
        self.transfer = store.transfer
        self.transfers = store.transfers
        self.past_runs = store.past_runs
        self.past_changes = store.past_changes
        self.lives = store.lives
        self.opened = store.opened
        self.opened_count = store.opened_count
        self.targets_firing = store.targets_firing
        self.firing = store.firing
        self.announced = store.announced
        self.guard_states = store.guard_states
        # What commits lets those know who watch.
        self.remember = self._telling(store.remember)
        self.save = self._telling(store.save)
        self.conclude = self._telling(store.conclude)
        self.late = self._telling(store.late)
        self.ask = self._telling(store.ask)
        self.append = self._telling(store.append)
        self.save_transfer = self._telling(store.save_transfer)
        self.open_guard = self._telling(store.open_guard)

    # life ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store, and begin to look for Redis; a start never waits for it. Raises StoreError."""
        await self._store.open()
        self._redis.start()

    async def close(self) -> None:
        """Leave Redis, and close the store."""
        await self._redis.stop()
        await self._store.close()

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the store or another replica says that something may be due."""
        self._store.on_wake(callback)
        self._callbacks[WAKE].append(callback)

    def on_news(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when this replica or another has committed something that can be shown."""
        self._callbacks[NEWS].append(callback)

    @property
    def health(self) -> str:
        """How Redis is: ``ok``, or ``degraded: …`` with what is wrong. The store is not asked."""
        return self._redis.health

    def _heard(self, channel: str) -> None:
        for callback in self._callbacks[channel]:
            callback()

    def _told(self) -> None:
        # Those of this process need no Redis to hear of it.
        self._heard(NEWS)
        self._redis.call(NEWS)

    def _telling(self, verb: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        async def told(*args: P.args, **kwargs: P.kwargs) -> R:
            answer = await verb(*args, **kwargs)
            self._told()
            return answer

        return told

    def _woken(self) -> None:
        self._told()
        self._redis.call(WAKE)

    # what makes something due, or takes it --------------------------------------------------------------------------

    async def intake(self, arrival: Arrival) -> Receipt:
        """Commit a delivery, then wake the others if it opened runs or closed incidents."""
        receipt = await self._store.intake(arrival)
        if receipt.runs or "closed" in receipt.notices:
            self._woken()
        else:
            self._told()
        return receipt

    async def claim(self, owner: str, lease: float, most: int) -> Sequence[Claim]:
        """Take due runs."""
        claims = await self._store.claim(owner, lease, most)
        if claims:
            self._told()
        return claims

    async def vote(self, run_id: str, digest: str, actor: str, yes: bool, comment: str) -> Run:
        """A person's answer. Raises NotFound, Conflict."""
        run = await self._store.vote(run_id, digest, actor, yes, comment)
        self._woken()
        return run

    async def cancel(self, run_id: str, actor: str, comment: str, found: Found | None = None) -> Run:
        """A person cancels what has not begun; others may have waited for it. Raises NotFound, Conflict."""
        run = await self._store.cancel(run_id, actor, comment, found)
        self._woken()
        return run

    async def acknowledge(self, run_id: str, actor: str, comment: str) -> Run:
        """A person takes over; nobody else is called. Raises NotFound, Conflict."""
        run = await self._store.acknowledge(run_id, actor, comment)
        self._woken()
        return run

    async def retry(self, run_id: str, actor: str, comment: str) -> Run:
        """Try once more what ended and changed nothing. Raises NotFound, Conflict."""
        run = await self._store.retry(run_id, actor, comment)
        self._woken()
        return run

    async def hasten(self, run_id: str, actor: str, comment: str) -> Run:
        """Have a temporary change go back now. Raises NotFound, Conflict."""
        run = await self._store.hasten(run_id, actor, comment)
        self._woken()
        return run

    async def pause(self, pause: Pause) -> None:
        """Engage or replace a pause; what the old one held looks at the new one."""
        await self._store.pause(pause)
        self._woken()

    async def resume(self, scope: str, actor: str, comment: str) -> None:
        """Release a pause. Raises NotFound."""
        await self._store.resume(scope, actor, comment)
        self._woken()

    async def close_guard(self, guard: str, scope: str, actor: str, reason: str) -> Sequence[GuardState]:
        """Close what a guard has open; the runs that it held look again. Raises NotFound."""
        closed = await self._store.close_guard(guard, scope, actor, reason)
        self._woken()
        return closed

    # the pre-filter --------------------------------------------------------------------------------------------------

    async def licence(self, request: LicenceRequest) -> Licence | Refusal:
        """The licence transaction, unless a limit is known to be used up. Raises Lost.

        A yes of Redis means nothing. A no of Redis is only a reason to look before locking: what is refused early was
        refused by the store's own ledger, so that whatever stands in Redis can neither grant nor hold anything.
        """
        if request.limits and await self._redis.ask(_redis_limits.full(self._prefix, request)):
            refusal = await self._store.within(request.limits, request.run, request.incident_key, (request.target,))
            if refusal is not None:
                return refusal
        answer = await self._store.licence(request)
        if isinstance(answer, Licence):
            if request.limits:
                self._redis.tell(_redis_limits.granted(self._prefix, request))
            self._told()
        return answer
