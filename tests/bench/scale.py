"""What grows: rules from five to ten thousand, memory with alerts, and the time to start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from remediator.catalogue import Catalogue
from remediator.rulebook import rulebook_from_texts
from tests.bench.bodies import Bodies, Numbers
from tests.bench.client import Client, Load
from tests.bench.figures import Report
from tests.bench.processes import Process
from tests.bench.rates import take_turns
from tests.bench.service import WAITS, many, remediator

RULES = "Ten thousand rules"
MEMORY = "Memory and start"


def rules(report: Report, directory: Path, target: Process, *, seconds: float, rounds: int) -> None:
    """All-new alerts with five and with ten thousand rules; loading and matching them."""
    texts = many(10_000)
    files = [(f"{number}.yaml", b"rules:\n" + text.encode()) for number, text in enumerate(texts)]
    catalogue = Catalogue()
    catalogue.action("http.post")
    began = time.perf_counter()
    rulebook = rulebook_from_texts(files, catalogue)
    report.add(RULES, "loading them, every check included", time.perf_counter() - began, "s", "<= 3")
    labels = {"alertname": "Filler7000", "severity": "critical", "queue": "minting", "namespace": "production"}
    if [rule.name for rule in rulebook.match(labels)] != ["filler-7000"]:
        raise AssertionError("the rule that must match does not")
    began = time.perf_counter()
    for _ in range(20_000):
        rulebook.match(labels)
    report.add(RULES, "matching one alert among them", (time.perf_counter() - began) / 20_000 * 1e6, "µs", "<= 50")
    numbers, bodies = Numbers(), Bodies(10)

    def fresh() -> list[bytes]:
        count = int(3000 * seconds)
        return bodies.requests(numbers.take(count * 10), count)

    with (
        remediator(directory, "few", many(5), target.port) as few,
        remediator(directory, "many", texts, target.port) as all_of_them,
        Client(few.port, 8) as to_few,
        Client(all_of_them.port, 8) as to_many,
    ):
        turns: dict[str, Callable[[], Load]] = {
            "few": lambda: to_few.closed_loop(fresh(), seconds),
            "many": lambda: to_many.closed_loop(fresh(), seconds),
        }
        loads = take_turns(turns, rounds)
        started = all_of_them.started_in
    rate = {name: statistics.median([load.rate for load in each]) * 10 for name, each in loads.items()}
    report.add(RULES, "start to ready with them", started, "s")
    report.add(RULES, "all-new alerts with 5 rules, 8 x 10", rate["few"], "alerts/s")
    report.add(RULES, "all-new alerts with 10,000 rules, 8 x 10", rate["many"], "alerts/s")
    report.add(RULES, "share of the rate with 5 rules", rate["many"] / rate["few"], "", ">= 0.9")


def footprint(report: Report, directory: Path, target: Process, *, alerts: int, starts: int) -> None:
    """Resident memory idle and after many all-new alerts; start to ready."""
    taken = []
    for number in range(starts):
        with remediator(directory, f"start{number}", WAITS, target.port) as service:
            taken.append(service.started_in)
    report.add(MEMORY, f"start to ready, median of {starts}", statistics.median(taken), "s", "<= 1")
    with remediator(directory, "memory", WAITS, target.port) as service, Client(service.port, 8) as client:
        time.sleep(1.0)
        idle = service.rss()
        report.add(MEMORY, "resident memory, idle", idle, "MiB", "<= 100")
        bodies = Bodies(10)
        for first in range(0, alerts, 10_000):
            client.closed_loop(bodies.requests(first, 1000), 600)
        time.sleep(1.0)
        grown = service.rss() - idle
        goal = "<= 16" if alerts == 100_000 else ""
        report.add(MEMORY, f"growth of resident memory over {alerts:,} all-new alerts", grown, "MiB", goal)
