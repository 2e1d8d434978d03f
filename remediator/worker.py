"""The loop that carries runs out: claim, keep leases, recover what others left, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.engine import Engine
from remediator.errors import StoreUnavailable
from remediator.store import Claim, Store

_log = structlog.get_logger("remediator.worker")
_SAFE = 0.8
"""The share of a lease in which an effect may begin; the rest is for clocks and replies that are slow."""


class _Carried:
    """A run in this worker's hands."""

    def __init__(self, claim: Claim, deadline: float) -> None:
        self.claim = claim
        self.deadline = deadline
        self.task: asyncio.Task[None] | None = None


class Worker:
    """Claims due runs and advances up to ``concurrency`` of them at a time.

    ``lease`` is how long a claim lasts; it is renewed every third of that. ``poll`` is how often the store is asked even
    if nobody says that there is something to do. All in seconds.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        owner: str,
        clock: Clock,
        concurrency: int = 64,
        lease: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._store = store
        self._engine = engine
        self._owner = owner
        self._clock = clock
        self._concurrency = concurrency
        self._lease = lease
        self._poll = poll
        self._carried: dict[str, _Carried] = {}
        self._something = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.store_ok = True

    def wake(self) -> None:
        """Something may be due."""
        self._something.set()

    @property
    def active(self) -> int:
        """How many runs are being advanced now."""
        return len(self._carried)

    def start(self) -> None:
        """Begin claiming."""
        self._tasks = [
            asyncio.create_task(self._claim_for_ever(), name="worker-claim"),
            asyncio.create_task(self._renew_for_ever(), name="worker-renew"),
        ]

    async def drain(self, grace: float) -> None:
        """Claim nothing more, let what is under way finish for ``grace`` seconds, then hand back what can be handed back."""
        self._stopping = True
        self.wake()
        tasks = [carried.task for carried in self._carried.values() if carried.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for carried in list(self._carried.values()):
            if carried.task is not None:
                carried.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            self._something.clear()
            claims = await self._claim()
            for claim in claims:
                self._carry(claim)
            if not claims or len(self._carried) >= self._concurrency:
                await self._wait()

    async def _claim(self) -> Sequence[Claim]:
        free = self._concurrency - len(self._carried)
        if free <= 0:
            return ()
        self._claimed_at = self._clock.monotonic()
        try:
            claims = await self._store.claim(self._owner, self._lease, free)
        except StoreUnavailable as error:
            if self.store_ok:
                _log.error("the store is away; nothing acts until it is back", error=str(error))
            self.store_ok = False
            await asyncio.sleep(self._poll)
            return ()
        if not self.store_ok:
            _log.info("the store is back")
        self.store_ok = True
        return claims

    async def _wait(self) -> None:
        timeout = self._poll
        try:
            due = await self._store.next_due() if len(self._carried) < self._concurrency else None
            if due is not None:
                timeout = min(self._poll, max(0.001, due - self._clock.now()))
        except StoreUnavailable:
            pass  # The next claim will say so.
        try:
            async with asyncio.timeout(timeout):
                await self._something.wait()
        except TimeoutError:
            pass

    def _carry(self, claim: Claim) -> None:
        carried = _Carried(claim, self._claimed_at + _SAFE * self._lease)
        before = self._carried.get(claim.run.id)
        if before is not None:
            # Our own lease ran out under us: the older advance is fenced off and may begin nothing more.
            before.deadline = float("-inf")
        self._carried[claim.run.id] = carried
        carried.task = asyncio.create_task(self._advance(carried), name=f"run-{claim.run.id}")

    async def _advance(self, carried: _Carried) -> None:
        try:
            await self._engine.advance(carried.claim, lambda: carried.deadline)
        finally:
            if self._carried.get(carried.claim.run.id) is carried:
                del self._carried[carried.claim.run.id]
            self.wake()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await self._renew()

    async def _renew(self) -> None:
        carried = dict(self._carried)
        if not carried:
            return
        at = self._clock.monotonic()
        try:
            lost = await self._store.renew([c.claim.run for c in carried.values()], self._lease)
        except StoreUnavailable as error:
            _log.error("leases could not be renewed", error=str(error), runs=len(carried))
            return
        crashpoint("worker.after_renew")
        for run_id, one in carried.items():
            # A lost run is not cancelled: an effect under way cannot be called back, and its outcome is evidence.
            one.deadline = float("-inf") if run_id in lost else at + _SAFE * self._lease
