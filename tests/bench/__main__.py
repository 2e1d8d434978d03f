"""``python -m tests.bench``: runs every measurement and prints the table; a figure is never a failure."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import delays, replicas, scale
from tests.bench.figures import Report
from tests.bench.processes import Broken, Process, free_port
from tests.bench.rates import Rates

PARTS = ("rates", "answers", "actions", "bursts", "rules", "footprint", "postgres")


def _disk(directory: Path) -> str:
    """How long making 4 KiB durable takes here: every commit waits for it."""
    taken = []
    with (directory / "probe").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return f"fdatasync of 4 KiB takes {statistics.median(taken) * 1000:.2f} ms (median) where the databases are"


def _measure(report: Report, directory: Path, parts: list[str], quick: bool) -> None:
    port = free_port()
    argv = ["-m", "tests.bench.target", str(port)]
    with Process(argv, port=port, ready="/-/ready", log=directory / "target.log") as target:
        for part in parts:
            sys.stderr.write(f"measuring {part} ...\n")
            match part:
                case "rates":
                    rates = Rates(directory, target, seconds=0.5 if quick else 1.0, rounds=1 if quick else 3)
                    rates.measure(report, [(8, 10)] if quick else [(c, p) for c in (1, 8, 32) for p in (1, 10, 64)])
                    rates.references(report)
                case "answers":
                    delays.answers(report, directory, target, seconds=1 if quick else 5)
                case "actions":
                    delays.actions(report, directory, target, seconds=3 if quick else 20)
                case "bursts":
                    delays.bursts(report, directory, target, rounds=1 if quick else 5)
                case "rules":
                    scale.rules(report, directory, target, seconds=0.5 if quick else 1.5, rounds=1 if quick else 4)
                case "footprint":
                    alerts, starts = (10_000, 1) if quick else (100_000, 5)
                    scale.footprint(report, directory, target, alerts=alerts, starts=starts)
                case "postgres":
                    fleets = replicas.Fleets(directory, target, seconds=0.5, rounds=1 if quick else 6)
                    fleets.measure(report, (1, 2) if quick else (1, 2, 4))


def main() -> int:
    """0, or 1 when something is broken so that there is no figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("-o", dest="form", choices=("table", "json"), default="table", help="how to print the figures")
    parser.add_argument("--quick", action="store_true", help="a minute's smoke test; its figures are rough")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part only; may stand twice")
    parser.add_argument("--directory", type=Path, help="where the databases lie (a temporary directory)")
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="remediator-bench-", dir=options.directory) as name:
        directory = Path(name)
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        report.machine = {
            "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
            "before": f"load average {load}; {_disk(directory)}",
        }
        try:
            _measure(report, directory, options.only or list(PARTS), options.quick)
            broken = ""
        except Broken as error:
            broken = str(error)
    sys.stdout.write(report.as_json() + "\n" if options.form == "json" else report.as_table())
    if broken:
        sys.stderr.write(f"broken: {broken}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
