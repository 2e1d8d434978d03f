"""One event loop for many simulated processes: time is virtual, and a seed decides who runs next.

Which process a callback belongs to is in its context, as every task copies the context of whoever made it. A process
that was killed never runs again; one that is stopped (SIGSTOP) runs later, and time has passed for it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_800_000_000.0
"""What the true clock says when a simulation begins."""
_PATIENCE = 20_000
"""More callbacks than this in one instant are a loop without end."""


class Died(BaseException):
    """The process died right here. Not an Exception: no process catches its own death."""


class Process:
    """One simulated process on one simulated host. ``offset`` is how wrong the host's clock is, in seconds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.offset = 0.0
        self.waiting: list[asyncio.Handle] = []
        """What became ready while the process was stopped."""
        self.context = contextvars.Context()
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        return self.name


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """The process that runs now; None for the world around the processes."""
    return _process.get()


class TrueClock:
    """The time that really passes; the store's clock."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return EPOCH + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class HostClock(TrueClock):
    """The clock of a process's host: it may be wrong, and may jump. Its monotonic time goes on in a stopped process."""

    def __init__(self, loop: SimulatedLoop, process: Process) -> None:
        super().__init__(loop)
        self._host = process

    def now(self) -> float:
        return super().now() + self._host.offset


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs ready callbacks in an order that ``dice`` decide, and jumps to the next timer when none is ready."""

    def __init__(self, dice: random.Random, *, shuffled: bool) -> None:
        super().__init__()
        self._dice = dice
        self._shuffled = shuffled
        self._now = 0.0
        self._made = 0
        self._turns = 0
        self._queue: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._tasks: list[tuple[asyncio.Task[Any], contextvars.Context]] = []
        self.failures: list[str] = []
        """What must not be: errors that nobody caught, and broken invariants. The first one ends the simulation."""
        self.set_exception_handler(self._failed)

    # what asyncio asks of a loop -------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_closed():
            self._queue.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def create_task(
        self, coro: Any, *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        context = contextvars.copy_context() if context is None else context
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=str(name), context=context)
        # What a killed process leaves behind is never ended in an orderly way, and nobody should complain about it.
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - the types do not know it
        self._tasks.append((task, context))
        return task

    def _run_once(self) -> None:
        if self.failures:
            raise AssertionError(self.failures[0])
        if not self._queue:
            self._next_instant()
        position = self._dice.randrange(len(self._queue)) if self._shuffled and len(self._queue) > 1 else 0
        handle = self._queue.pop(position)
        self._turns += 1
        if self._turns > _PATIENCE:
            raise AssertionError(f"more than {_PATIENCE} callbacks at {self._now:.3f}: nobody waits for anything")
        if handle.cancelled():
            return
        process = handle._context.get(_process)  # type: ignore[attr-defined]  # every Handle has it; the types do not
        if process is not None and not process.alive:
            return
        if process is not None and process.stopped:
            process.waiting.append(handle)
        else:
            handle._run()

    def _next_instant(self) -> None:
        self._turns = 0
        while not self._queue:
            if not self._timers:
                raise AssertionError("nothing is ready and nothing is planned: everybody waits for ever")
            self._now = max(self._now, self._timers[0][0])
            while self._timers and self._timers[0][0] <= self._now:
                handle = heapq.heappop(self._timers)[2]
                if not handle.cancelled():
                    self._queue.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays where it is and is passed over when its time comes."""

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Died):
            self.failures.append(f"{context.get('message')}: {error!r}")

    # what happens to processes ---------------------------------------------------------------------------------------

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run ``work`` as a task of ``process``."""
        return self.create_task(work, name=name, context=process.context.copy())

    def world(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Call in ``delay`` seconds, as the world does: whatever becomes of the process that asked for it."""
        self.call_later(delay, callback, *args, context=contextvars.Context())

    def stop_process(self, process: Process, seconds: float) -> None:
        """SIGSTOP now, SIGCONT after ``seconds``."""
        process.stopped = True
        self.world(seconds, self.resume_process, process)

    def resume_process(self, process: Process) -> None:
        """SIGCONT."""
        process.stopped = False
        self._queue += process.waiting
        process.waiting = []

    def wind_up(self) -> None:
        """End what is left of every task, each in its own context, and close."""
        self.close()
        for task, context in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                context.run(coroutine.close)
            elif task.done() and not task.cancelled():
                task.exception()  # Was seen, so that nobody says that it never was.
