"""A short chaos in the suite; `make chaos` is the long one."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.chaos.schedule import REPLICAS, schedule
from tests.chaos.storm import chaos


def test_the_same_seed_is_the_same_plan() -> None:
    """Who has the seed of a bad night can have the same faults at the same times again."""
    assert schedule(7, 600) == schedule(7, 600)
    assert schedule(7, 600) != schedule(8, 600)


def test_ten_minutes_hold_every_kind_of_fault() -> None:
    """No seed leaves out a way to fail, and each replica is stopped for longer than its lease."""
    for seed in range(100):
        faults = schedule(seed, 600)
        kinds = {(fault.place.rstrip("0123456789"), fault.kind) for fault in faults}
        assert kinds == {
            ("replica", "kill"), ("replica", "stop"), ("replica", "end"),
            ("postgres", "crash"), ("postgres", "freeze"),
            ("redis", "flush"), ("redis", "freeze"), ("redis", "kill"),
            ("rules", "reload"), ("rules", "edit"), ("people", "pause"),
        }  # fmt: skip
        slept = {fault.place for fault in faults if fault.kind == "stop" and fault.lasts > 5.0}
        assert len(slept) == REPLICAS


def test_a_short_plan_reaches_every_place() -> None:
    """The chaos of the suite, too, kills or stops each replica and breaks database and Redis."""
    for seed in range(100):
        places = {fault.place for fault in schedule(seed, 15)}
        assert places >= {"replica0", "replica1", "replica2", "postgres", "redis", "rules", "people"}


async def test_chaos_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Acknowledged is kept, one run and at most one effect for each problem, limits hold, everything ends."""
    seed = int(os.environ.get("REMEDIATOR_CHAOS_SEED", str(random.randrange(10**6))))
    print(f"REMEDIATOR_CHAOS_SEED={seed}")
    story = await chaos(tmp_path, seed=seed, seconds=15)
    print(story)
    assert len(story.senders.acknowledged) > 30
    assert len(story.judged.runs) > 15
    assert story.effects > 3
    assert sum(story.trouble.had.values()) == len(schedule(seed, 15))
