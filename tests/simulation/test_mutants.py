"""What the simulation is worth: every fence or guard that is taken away is missed by some seed, soon."""

from __future__ import annotations

import pytest

from tests.simulation.closed_loop_mutants import CLOSED_LOOP
from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import Violation, simulate

WITHIN = 250
"""Every mutant is caught by one of so many seeds."""


@pytest.mark.parametrize("what", [*MUTANTS, *CLOSED_LOOP])
def test_a_missing_fence_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this one check gone some seed breaks an invariant; so its presence is what the other seeds prove."""
    for where, name, by in {**MUTANTS, **CLOSED_LOOP}[what]:
        monkeypatch.setattr(where, name, by)
    for seed in range(WITHIN):
        try:
            simulate(seed)
        except Violation as violation:
            # Whoever reads this in a failed test can see it again.
            assert str(violation).startswith(f"seed {seed}: replay with make sim FROM={seed} SEEDS=1\n")
            return
    pytest.fail(f"{WITHIN} seeds did not notice that {what}")
