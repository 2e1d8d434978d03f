"""Five hundred histories of replicas, senders, people and targets under faults, and that each can be told again."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from remediator.store import Store
from tests.simulation.faults import KINDS
from tests.simulation.simulation import Figures, Simulation, simulate
from tests.simulation.weather import QUIET, VERBS

SHARES, SIZE = 5, 100


@cache
def _figures(seed: int) -> Figures:
    return simulate(seed)


@pytest.mark.parametrize("share", range(SHARES))
def test_every_invariant_holds_under_faults(share: int) -> None:
    """Crashes, stops, partitions, lost replies, wrong clocks: no delivery lost, nothing done twice or without leave."""
    for seed in range(share * SIZE, (share + 1) * SIZE):
        _figures(seed)


def test_the_seeds_reach_what_they_are_for() -> None:
    """The histories are no idle ones: each kind of fault strikes, and runs come to every end there is."""
    found = [_figures(seed) for seed in range(60)]
    assert {kind for figures in found for kind in figures.kinds} == set(KINDS)
    states = {state for figures in found for state in figures.states}
    assert states >= {"succeeded", "failed", "denied", "observed", "cancelled", "expired"}
    assert sum(figures.deaths for figures in found) > 100
    assert sum(figures.effects for figures in found) > 150


def test_what_is_said_of_verbs_is_said_of_verbs_that_exist() -> None:
    """No fault and no check hangs on the name of a verb that the port of the store no longer has."""
    assert {*VERBS, *QUIET} <= {name for name in vars(Store) if not name.startswith("_")}


def test_a_seed_is_the_same_story_again() -> None:
    """A seed that failed can be looked at: told again, and again with its log lines, it is the same to the bit."""
    for seed in (3, 153, 221):
        first = simulate(seed)
        assert simulate(seed) == first
        told = Simulation(seed, verbose=True)
        assert told.run()._replace(trace="") == first._replace(trace="")
        assert told.witness.lines


def test_another_process_tells_the_same_story() -> None:
    """Nothing of a history depends on this machine, this process or the order of its hashes."""
    code = "from tests.simulation.simulation import simulate; print(simulate(153).trace, simulate(7).trace)"
    expected = f"{simulate(153).trace} {simulate(7).trace}"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
