"""`python -m tests.chaos --minutes 10 --seed N`: chaos for as long as you like, or the same chaos again."""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

from tests.chaos.schedule import schedule
from tests.chaos.storm import chaos


def main() -> None:
    """Tell the plan, carry it out, and print what came of it; a broken promise is an AssertionError."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long things go wrong")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which plan of faults")
    parser.add_argument("--rate", type=float, default=2.0, help="new problems a second")
    parser.add_argument("--plan", action="store_true", help="print the plan of faults and do nothing")
    given = parser.parse_args()
    seconds = given.minutes * 60
    print(f"seed {given.seed}, {len(schedule(given.seed, seconds))} faults in {given.minutes:g} minutes", flush=True)
    if given.plan:
        print(*schedule(given.seed, seconds), sep="\n")
        return
    with tempfile.TemporaryDirectory(prefix="remediator-chaos-") as directory:
        print(asyncio.run(chaos(Path(directory), seed=given.seed, seconds=seconds, rate=given.rate)))


main()
