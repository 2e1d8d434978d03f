"""``python -m tests.money 1000000``: the simulation over many seeds, on two cores, with a line for every fault."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.money.simulation import play

STRETCH = 1000


def judged(first: int) -> tuple[list[str], Counter[str]]:
    """The faults of a stretch of seeds, each with its number, and how often what happened."""
    faults, seen = list[str](), Counter[str]()
    for seed in range(first, first + STRETCH):
        film = play(seed)
        faults += [f"seed {seed}: {fault}" for fault in film.faults()]
        seen["seeds"] += 1
        seen["deaths"] += film.deaths
        seen["landed"] += len(film.cluster.landed)
        seen.update(transfer.state.value for transfer in film.ledger.kept.values())
    return faults, seen


def main(seeds: int, first: int = 0, workers: int = 2) -> int:
    """Play ``seeds`` seeds, beginning with ``first``; 1 if any of them found a fault."""
    total, found = Counter[str](), 0
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(judged, start) for start in range(first, first + seeds, STRETCH)]
        for job in as_completed(jobs):
            faults, seen = job.result()
            total += seen
            found += len(faults)
            for fault in faults:
                print(fault, flush=True)
            if total["seeds"] % 50_000 == 0:
                print(f"{total['seeds']} seeds, {found} faults", flush=True)
    print(f"{found} faults; " + ", ".join(f"{count} {name}" for name, count in sorted(total.items())))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
