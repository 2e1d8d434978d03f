"""The loop that carries runs out: claim, keep leases, recover what others left, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog

from remediator.clock import Clock
from remediator.crashpoint import crashpoint
from remediator.engine import Engine, Lease
from remediator.errors import StoreUnavailable
from remediator.store import Claim, Store

_log = structlog.get_logger("remediator.worker")
_SAFE = 0.8
"""The share of a lease in which an effect may begin; the rest is for clocks and replies that are slow."""


class _Carried:
    """A run in this worker's hands."""

    def __init__(self, claim: Claim, deadline: float) -> None:
        self.claim = claim
        self.lease = Lease(deadline)
        self.task: asyncio.Task[None] | None = None


class Worker:
    """Claims due runs and advances up to ``concurrency`` of them at a time.

    ``lease`` is how long a claim lasts; it is renewed every third of that. ``poll`` is how often the store is asked
    even if nobody says that there is something to do. All in seconds.
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

    def under_way(self) -> Collection[asyncio.Task[None]]:
        """The advances that are going on now, with whatever rules and targets they began with."""
        return {carried.task for carried in self._carried.values() if carried.task is not None}

    def start(self) -> None:
        """Begin claiming."""
        self._tasks = [
            asyncio.create_task(self._claim_for_ever(), name="worker-claim"),
            asyncio.create_task(self._renew_for_ever(), name="worker-renew"),
        ]

    async def drain(self, grace: float) -> None:
        """Claim nothing more, begin no effect, let what is under way finish for ``grace`` seconds, hand back the rest.

        Whatever still acts then gets five seconds more before it is cancelled, which leaves its outcome unknown.
        """
        self._stopping = self._engine.draining = True
        self.wake()
        # A claim that is being committed right now still becomes a run in our hands.
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=self._poll + 5.0)
        await self._finish(grace, lambda carried: not carried.lease.acting)
        await self._finish(5.0, lambda carried: True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _finish(self, grace: float, which: Callable[[_Carried], bool]) -> None:
        """Wait for ``grace`` seconds, then cancel what is left and ``which``, and wait until it has stopped."""
        tasks = [carried.task for carried in self._carried.values() if carried.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        cancelled = [c.task for c in self._carried.values() if c.task is not None and which(c)]
        for task in cancelled:
            task.cancel()
        if cancelled:
            await asyncio.wait(cancelled, timeout=5.0)

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._claim_and_wait()
            except Exception:  # noqa: BLE001 - logged, and this must go on.
                # Without this loop nothing would ever act again, and nobody would hear of it.
                _log.exception("a bug kept runs from being claimed")
                await asyncio.sleep(self._poll)

    async def _claim_and_wait(self) -> None:
        self._something.clear()
        free, now = self._concurrency - len(self._carried), self._clock.now()
        claims = await self._claim()
        for claim in claims:
            self._carry(claim)
        if len(claims) < free or free <= 0:
            # Whatever was due and could be claimed is in our hands.
            await self._wait(now)

    async def _claim(self) -> Sequence[Claim]:
        free = self._concurrency - len(self._carried)
        if free <= 0:
            return ()
        if self._overslept():
            # The process stood still. What nobody took in the meantime is still ours and need not be recovered.
            await self._renew()
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

    def _overslept(self) -> bool:
        now = self._clock.monotonic()
        return any(carried.lease.deadline < now for carried in self._carried.values())

    async def _wait(self, claimed: float) -> None:
        """Until something is due that was not at ``claimed``, or somebody says that there is something to do."""
        timeout = self._poll
        try:
            due = await self._store.next_due() if len(self._carried) < self._concurrency else None
            # What is due already was not claimed because others act on its target: their end wakes us.
            if due is not None and due > claimed:
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
            before.lease.deadline = float("-inf")
        self._carried[claim.run.id] = carried
        carried.task = asyncio.create_task(self._advance(carried), name=f"run-{claim.run.id}")

    async def _advance(self, carried: _Carried) -> None:
        try:
            await self._engine.advance(carried.claim, carried.lease)
        finally:
            if self._carried.get(carried.claim.run.id) is carried:
                del self._carried[carried.claim.run.id]
            self.wake()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._renew()
            except Exception:  # noqa: BLE001 - logged, and this must go on.
                # Leases that are not renewed end by themselves, which is safe; never renewing again is not.
                _log.exception("a bug kept leases from being renewed")

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
            one.lease.deadline = float("-inf") if run_id in lost else at + _SAFE * self._lease
