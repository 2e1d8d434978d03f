"""`make sim SEEDS=… FROM=…`: many seeds on every core, or one seed with its whole story."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

from tests.simulation.simulation import Figures, Simulation, Violation, simulate

_SHARE = 50


def _some(seeds: tuple[int, int]) -> list[Figures | str]:
    """The seeds from the first up to the second: what each came to, or how it failed."""
    found: list[Figures | str] = []
    for seed in range(*seeds):
        try:
            found.append(simulate(seed))
        except Violation as violation:
            found.append(str(violation))
    return found


def _story(seed: int) -> int:
    """One seed, told line by line."""
    simulation = Simulation(seed, verbose=True)
    try:
        figures: Figures | str = simulation.run()
    except Violation as violation:
        figures = str(violation)
    print("\n".join(simulation.witness.lines or ()))
    print(figures if isinstance(figures, str) else f"\nseed {seed}: every invariant holds\n{figures}")
    return int(isinstance(figures, str))


def _many(first: int, seeds: int, processes: int) -> int:
    begun, failed, total = time.monotonic(), 0, Counter[str]()
    shares = iter([(at, min(at + _SHARE, first + seeds)) for at in range(first, first + seeds, _SHARE)])
    with ProcessPoolExecutor(processes) as pool:
        # A few shares at a time, so that the first failure is seen at once and an interrupt ends soon.
        while batch := list(islice(shares, 4 * processes)):
            for figures in (each for share in pool.map(_some, batch) for each in share):
                if isinstance(figures, str):
                    failed += 1
                    print(figures, file=sys.stderr, flush=True)
                    continue
                total.update(seeds=1, runs=figures.runs, effects=figures.effects)
                total.update(transactions=figures.verbs, deaths=figures.deaths)
                total["virtual hours"] += int(figures.virtual)
    total["virtual hours"] //= 3600
    took = time.monotonic() - begun
    print(f"seeds {first} to {first + seeds - 1} in {took:.0f} s: {failed} failed; held: {dict(total)}")
    return int(failed > 0)


def main() -> int:
    """The exit status: 1 when a seed broke an invariant."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many; 1 tells the whole story of that seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at a time")
    wanted = parser.parse_args()
    if wanted.seeds == 1:
        return _story(wanted.first)
    return _many(wanted.first, wanted.seeds, wanted.processes)


if __name__ == "__main__":
    sys.exit(main())
