"""Another five hundred histories, in a file of their own so that they run beside the first ones."""

from __future__ import annotations

import pytest

from tests.simulation.simulation import simulate

FIRST, SHARES, SIZE = 500, 5, 100


@pytest.mark.parametrize("share", range(SHARES))
def test_every_invariant_holds_under_faults(share: int) -> None:
    """Crashes, stops, partitions, lost replies, wrong clocks: no delivery lost, nothing done twice or without leave."""
    for seed in range(FIRST + share * SIZE, FIRST + (share + 1) * SIZE):
        simulate(seed)
