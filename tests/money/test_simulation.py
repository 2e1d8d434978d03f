"""Money under every disaster that a seed can think of: never twice, never lost in silence, never beyond a cap."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from remediator.integrations.solana._carry import Teller
from tests.money.__main__ import STRETCH, judged
from tests.money.mutants import OneEndpointExpiry, RetriesOnTimeout, SavesAfterSend
from tests.money.simulation import play

SEEDS, PARTS = 10_000, 5


@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_pays_twice_loses_or_overspends(part: int) -> None:
    """10,000 seeds: 0 double payments, 0 silent losses, no cap exceeded, and every transfer has an end."""
    seeds = SEEDS // PARTS
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        parts = list(pool.map(judged, range(part * seeds, (part + 1) * seeds, STRETCH)))
    faults = [fault for found, _ in parts for fault in found]
    seen = sum((part for _, part in parts), Counter[str]())
    assert not faults, faults[:5]
    # The seeds do reach what they are there for.
    assert all(seen[state] > 100 for state in ("settled", "expired", "released", "needs_human", "deaths", "landed"))
    assert seen["seeds"] == seeds


@pytest.mark.parametrize(
    ("mutant", "lock", "crime"),
    [
        (RetriesOnTimeout, True, "double"),
        (SavesAfterSend, True, "double"),
        (OneEndpointExpiry, True, "silent"),
        (Teller, False, "above"),
    ],
)
def test_the_simulation_catches_the_naive_ways(mutant: type[Teller], lock: bool, crime: str) -> None:
    """Retry on time-out, signature saved after send, expiry by one endpoint, no lock: each is found by its crime."""
    crimes = Counter[str]()
    for seed in range(600):
        crimes.update(fault.split(":")[0].split(" ")[0] for fault in play(seed, mutant, lock=lock).faults())
    assert crimes[crime] > 0, crimes


def test_a_seed_is_a_film() -> None:
    """The same seed shows the same film to the last lamport, so that a found fault can be looked at again."""
    first, again = play(4711), play(4711)
    assert first.cluster.balances == again.cluster.balances
    assert first.ledger.kept == again.ledger.kept
    assert first.ledger.events == again.ledger.events
