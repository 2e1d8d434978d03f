"""Proves that history is removed when it should be, in small pieces, and never earlier than a limit looks back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from remediator.catalogue import Catalogue
from remediator.errors import InputError, StoreUnavailable
from remediator.retention import BATCH, EVERY, FIRST, Retention, longest_window
from remediator.rulebook import rulebook_from_texts
from remediator.store import Pruned
from remediator.stores.sqlite import SqliteStore
from tests.engine_world import LoopClock
from tests.stores.conformance.kit import Bench, CountingIds, arrival, ref, sighting

pytestmark = pytest.mark.looptime
DAY = 86400.0

RULES = b"""
rules:
  - name: one
    when: {alert: A}
    guards: [{cooldown: 10m}, {rate_limit: {runs: 3, per: 1h}}, {rate_limit: {runs: 9, per: 30d}}]
    steps: [{uses: http.post, target: api, with: {path: /x}}]
  - name: two
    when: {alert: A}
    guards: [{cooldown: {for: 2d, scope: target}}, {approval: {needed: 2}}, {backoff: {forget: 25h}}]
    steps: [{uses: http.post, target: api, with: {path: /x}}]
"""


class Watched(SqliteStore):
    """The store, which remembers when it was asked to prune and can be away."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(":memory:", clock=clock, ids=CountingIds())
        self.asked: list[float] = []
        self.away = False

    async def prune(self, keep: float, most: int) -> Pruned:
        """As the store does it."""
        self.asked.append(asyncio.get_running_loop().time())
        if self.away:
            raise StoreUnavailable("away")
        return await super().prune(keep, most)


@pytest.fixture
async def store() -> AsyncIterator[Watched]:
    """An open store on the time of the loop."""
    made = Watched(LoopClock())
    await made.open()
    yield made
    await made.close()



def retention(store: Watched, seconds: float | None) -> Retention:
    """Retention that keeps so much."""

    async def keep() -> float | None:
        return seconds

    return Retention(store, keep)


def test_the_longest_window_is_that_of_the_limits() -> None:
    """Every guard that counts is looked at, those of the settings too; one that counts nothing is 0."""
    rules = rulebook_from_texts([("rules.yaml", RULES)], Catalogue()).rules
    assert longest_window(rules, Catalogue()) == 30 * DAY
    assert longest_window(rules[1:], Catalogue()) == 2 * DAY
    assert longest_window(rules, Catalogue(), [{"rate_limit": {"runs": 1, "per": "1y"}}]) == 365 * DAY
    assert longest_window((), Catalogue(), [{"storm": {}}]) == DAY + 300
    assert longest_window((), Catalogue(), [{"blast_radius": {"fleet": "probes.a.n", "max_count": 1}}]) == 3600
    assert longest_window((), Catalogue(), [{"approval": {"needed": 1}}]) == 0.0
    with pytest.raises(InputError):
        longest_window((), Catalogue(), [{"cooldwn": "1m"}])


async def test_everything_old_goes_in_small_pieces(store: Watched) -> None:
    """One pass removes all that is old, however much it is, and lets others commit between two pieces."""
    for number in range(2 * BATCH + 1):
        await store.intake(arrival(sighting(f"q{number}", rules=(ref(f"rule-{number}"),))))
    await asyncio.sleep(31 * DAY)
    assert await retention(store, 30 * DAY).once() == 2 * BATCH + 1
    gaps = [later - earlier for earlier, later in zip(store.asked, store.asked[1:], strict=False)]
    assert len(gaps) == 2 and min(gaps) > 0
    assert await retention(store, 30 * DAY).once() == 0


async def test_nothing_is_removed_unless_it_is_said(store: Watched) -> None:
    """Without storage.retention the store is not even asked."""
    await store.intake(arrival(sighting("a", rules=(ref(),))))
    await asyncio.sleep(50 * DAY)
    assert await retention(store, None).once() == 0
    assert store.asked == []


async def test_it_is_done_now_and_then_for_ever(store: Watched) -> None:
    """Not right after the start, then every hour; a store that is away is asked again an hour later."""
    bench = Bench(store, store._clock, CountingIds())  # type: ignore[arg-type]  # the loop's clock moves by itself
    begun = asyncio.get_running_loop().time()
    task = asyncio.create_task(retention(store, 30 * DAY).for_ever())
    await asyncio.sleep(FIRST - 1)
    assert store.asked == []
    store.away = True
    await asyncio.sleep(2 * EVERY)
    store.away = False
    await bench.store.intake(arrival(sighting("a", rules=(ref(),))))
    await asyncio.sleep(31 * DAY)
    task.cancel()
    assert [round(at - begun) for at in store.asked[:4]] == [FIRST + EVERY * n for n in range(4)]
    assert "storage.pruned" in await bench.events()
