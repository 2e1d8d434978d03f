"""The queue of the demonstration's minting service: mints in SQLite, and the workers that carry them out.

A restart continues where the last process stopped. What was being worked on then waits again, because
nobody works on it any more.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from remediator.clock import Clock

MAX_WORKERS = 64
"""The most workers the pool will run: what the machine of a real service would allow."""

COST_SOL = 0.0005
"""What one mint takes from the wallet."""

STATES = ("waiting", "active", "completed", "failed")


class Fault(StrEnum):
    """What can be wrong with the workers."""

    NONE = "none"
    SLOW = "slow"
    """Every mint takes ten times as long."""
    STUCK = "stuck"
    """A worker takes a mint and never finishes it."""
    FAILING = "failing"
    """Every mint fails."""


@dataclass(frozen=True)
class Mint:
    """One mint that a worker has taken; ``attempt`` tells this taking from an earlier one."""

    id: int
    attempt: int


class MintQueue:
    """The mints and where each of them stands. Every change is in the file before the method returns."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._db = sqlite3.connect(path, isolation_level=None)
        # NORMAL is enough: a crash of the process loses nothing, and nobody pulls a demonstration's plug.
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = NORMAL;
            CREATE TABLE IF NOT EXISTS mints (
                id INTEGER PRIMARY KEY, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
                queued_at REAL NOT NULL, taken_at REAL, error TEXT
            );
            CREATE INDEX IF NOT EXISTS mints_by_state ON mints (state, id);
            CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL NOT NULL);
            UPDATE mints SET state = 'waiting' WHERE state = 'active';
            """
        )
        self.counts = dict.fromkeys(STATES, 0)
        self.counts.update(self._db.execute("SELECT state, count(*) FROM mints GROUP BY state").fetchall())

    def fact(self, name: str, default: float) -> float:
        """A number that survives restarts."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else float(row[0])

    def set_fact(self, name: str, value: float) -> None:
        """Keep a number across restarts."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def add(self, count: int) -> None:
        """Put ``count`` new mints at the end of the queue, all of them or none."""
        now = self._clock.now()
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO mints (state, queued_at) VALUES ('waiting', ?)", [(now,)] * count)
        self._db.execute("COMMIT")
        self.counts["waiting"] += count

    def take(self) -> Mint | None:
        """The mint that has waited longest, now active; None when nothing waits."""
        row = self._db.execute(
            "UPDATE mints SET state = 'active', attempt = attempt + 1, taken_at = ? WHERE id ="
            " (SELECT id FROM mints WHERE state = 'waiting' ORDER BY id LIMIT 1) RETURNING id, attempt",
            (self._clock.now(),),
        ).fetchone()
        if row is None:
            return None
        self._move("waiting", "active", 1)
        return Mint(*row)

    def finish(self, mint: Mint, error: str | None = None) -> bool:
        """Record how a mint ended. False, and nothing changes, when another worker has it meanwhile."""
        state = "completed" if error is None else "failed"
        done = self._db.execute(
            "UPDATE mints SET state = ?, error = ? WHERE id = ? AND attempt = ? AND state = 'active'",
            (state, error, mint.id, mint.attempt),
        ).rowcount
        self._move("active", state, done)
        return bool(done)

    def stale(self, seconds: float) -> list[dict[str, float | int]]:
        """The mints that have been active for longer than ``seconds``, oldest first."""
        now = self._clock.now()
        rows = self._db.execute(
            "SELECT id, taken_at FROM mints WHERE state = 'active' AND taken_at < ? ORDER BY id",
            (now - seconds,),
        )
        return [{"id": id_, "seconds": round(now - taken_at, 3)} for id_, taken_at in rows]

    def retry_stale(self, seconds: float) -> int:
        """Let every stale mint wait again, at its old place; returns how many."""
        moved = self._db.execute(
            "UPDATE mints SET state = 'waiting' WHERE state = 'active' AND taken_at < ?",
            (self._clock.now() - seconds,),
        ).rowcount
        self._move("active", "waiting", moved)
        return moved

    def oldest_waiting_seconds(self) -> float:
        """How long the first mint in the queue has waited; 0 when nothing waits."""
        row = self._db.execute("SELECT queued_at FROM mints WHERE state = 'waiting' ORDER BY id LIMIT 1").fetchone()
        return 0.0 if row is None else max(0.0, self._clock.now() - row[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _move(self, old: str, new: str, count: int) -> None:
        self.counts[old] -= count
        self.counts[new] += count


class Workers:
    """A pool of workers over one queue. Its size, its pause and the wallet survive restarts.

    ``seconds`` is what one mint takes a healthy worker.
    """

    def __init__(self, queue: MintQueue, *, seconds: float, count: int, balance: float) -> None:
        self._queue = queue
        self._seconds = seconds
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._fault_ended = asyncio.Event()
        self.fault = Fault.NONE
        self.count = int(queue.fact("workers", count))
        self.paused = bool(queue.fact("paused", 0))
        self.balance = queue.fact("balance", balance)
        self.attempts = 0
        self.errors = 0

    def start(self) -> None:
        """Let the workers run that should."""
        self.resize(self.count)

    def resize(self, count: int) -> int:
        """Run ``count`` workers from now on; returns how many ran before. Surplus ones finish their mint."""
        previous, self.count = self.count, count
        self._queue.set_fact("workers", count)
        for number in range(count):
            if number not in self._tasks:
                task = asyncio.create_task(self._work(number), name=f"mint-worker-{number}")
                self._tasks[number] = task
        self._wake.set()
        return previous

    def pause(self, paused: bool) -> None:
        """Stop or resume taking mints; the active ones are finished either way."""
        self.paused = paused
        self._queue.set_fact("paused", paused)
        self._wake.set()

    def set_fault(self, fault: Fault) -> None:
        """Cause trouble, or end it."""
        self.fault = fault
        self._fault_ended.set()
        self._fault_ended = asyncio.Event()

    def set_balance(self, balance: float) -> None:
        """Put ``balance`` SOL into the wallet."""
        self.balance = balance
        self._queue.set_fact("balance", balance)

    def wake(self) -> None:
        """Tell idle workers that something waits."""
        self._wake.set()

    async def close(self) -> None:
        """End all workers at once; what they work on waits again after the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _work(self, number: int) -> None:
        try:
            while number < self.count:
                mint = None if self.paused else self._queue.take()
                if mint is None:
                    # Nothing is awaited between the look and the clearing, so no wake-up can be lost.
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await self._mint(mint)
        finally:
            del self._tasks[number]

    async def _mint(self, mint: Mint) -> None:
        fault = self.fault
        if fault is Fault.STUCK:
            await self._fault_ended.wait()
        await asyncio.sleep(self._seconds * (10 if fault is Fault.SLOW else 1))
        error = None
        if fault is Fault.FAILING:
            error = "metadata upload failed"
        elif self.balance < COST_SOL:
            error = "Insufficient balance"
        if not self._queue.finish(mint, error):
            return
        self.attempts += 1
        if error is None:
            self.set_balance(round(self.balance - COST_SOL, 9))
        else:
            self.errors += 1
