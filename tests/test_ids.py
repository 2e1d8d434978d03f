"""Proves that identifiers are distinct and sort by the time of their making, whatever the clock does."""

from __future__ import annotations

import re
import threading

from remediator.ids import SystemIds
from tests.stores.conformance.kit import StoreClock


def test_identifiers_have_one_form() -> None:
    """26 letters and digits that cannot be misread and need no quoting anywhere: no i, l, o or u."""
    ids = SystemIds(StoreClock())
    for _ in range(1000):
        assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", ids())


def test_identifiers_rise_while_the_clock_stands_still() -> None:
    """Many in one millisecond still sort in the order of their making."""
    ids = SystemIds(StoreClock())
    made = [ids() for _ in range(20_000)]
    assert made == sorted(made) and len(set(made)) == len(made)


def test_identifiers_rise_when_the_clock_goes_back() -> None:
    """A clock that is set back by an hour does not put a new run before older ones."""
    clock = StoreClock()
    ids = SystemIds(clock)
    made = []
    for step in (0.001, -3600, 0.001, 3599, 10, -1, 0):
        clock.pass_(step)
        made += [ids() for _ in range(50)]
    assert made == sorted(made) and len(set(made)) == len(made)


def test_a_later_millisecond_sorts_after_every_earlier_one() -> None:
    """The first letters are the time, so that two processes' identifiers sort together."""
    clock = StoreClock()
    early = SystemIds(clock)()
    clock.pass_(0.001)
    late = SystemIds(clock)()
    assert early < late and early[:10] < late[:10]


def test_nobody_can_guess_the_next_one() -> None:
    """Two makers in the same millisecond share the time and nothing else."""
    clock = StoreClock()
    tails = {SystemIds(clock)()[10:] for _ in range(1000)}
    assert len(tails) == 1000


def test_threads_get_different_ones() -> None:
    """The store's thread and the event loop share a maker, and no identifier is given out twice."""
    ids = SystemIds(StoreClock())
    made: list[list[str]] = [[] for _ in range(4)]

    def make(mine: list[str]) -> None:
        mine.extend(ids() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len({each for mine in made for each in mine}) == 20_000
