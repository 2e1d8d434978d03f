"""Durable alerts a second, beside the bare server: rounds of each take turns, and the medians are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bodies import Bodies, Numbers, endless
from tests.bench.client import Client, Load
from tests.bench.figures import Report
from tests.bench.processes import Process, free_port
from tests.bench.service import ACTS, WAITS, arrivals, remediator

GROUP = "Durable accepted alerts, beside a bare aiohttp handler that parses the JSON"
_KNOWN = 64
"""Distinct bodies that are repeated."""
_PREPARED = 30_000
"""All-new alerts a second that are prepared for a round; a faster server would end its round early."""


class Rates:
    """One bare server, one Remediator; ``seconds`` a round and ``rounds`` of each kind."""

    def __init__(self, directory: Path, target: Process, *, seconds: float, rounds: int) -> None:
        self._directory = directory
        self._target = target
        self._seconds = seconds
        self._rounds = rounds
        self._numbers = Numbers()

    def measure(self, report: Report, cells: list[tuple[int, int]]) -> None:
        """Every cell (connections, alerts a body): all-new, repeats, and their ratios to the bare server."""
        with bare_server(self._directory) as bare:
            for connections, per in cells:
                name = f"rates-{connections}-{per}"
                with remediator(self._directory, name, WAITS, self._target.port) as service:
                    self._cell(report, bare, service, connections, per)

    def _cell(self, report: Report, bare: Process, service: Process, connections: int, per: int) -> None:
        bodies = Bodies(per)
        first = self._numbers.take(_KNOWN * per)
        known = bodies.requests(first, _KNOWN)
        with Client(service.port, connections) as ours, Client(bare.port, connections) as theirs:
            ours.closed_loop(known, 60)
            turns: dict[str, Callable[[], Load]] = {
                "bare": lambda: theirs.closed_loop(endless(known), self._seconds),
                "new": lambda: ours.closed_loop(self._fresh(bodies), self._seconds),
                "known": lambda: ours.closed_loop(endless(known), self._seconds),
            }
            loads = take_turns(turns, self._rounds)
            if (connections, per) == (8, 10):
                fresh = bodies.again(first, _KNOWN, range(1, int(_PREPARED * self._seconds) // per))
                loads["other"] = [ours.closed_loop(fresh, self._seconds)]
        rate = {name: statistics.median([load.rate for load in each]) * per for name, each in loads.items()}
        goals = {"new": ">= 0.07", "known": ">= 0.3"} if (connections, per) == (8, 10) else {}
        cell = f"{connections:>2} connections x {per:>2} alerts"
        report.add(GROUP, f"{cell}: bare handler", rate["bare"], "alerts/s")
        kinds = {"new": "all new, a run each", "known": "repeats", "other": "known alerts in bodies never seen"}
        for name, words in ((name, words) for name, words in kinds.items() if name in rate):
            report.add(GROUP, f"{cell}: {words}", rate[name], "alerts/s")
            share = rate[name] / rate["bare"]
            report.add(GROUP, f"{cell}: {words}, share of bare", share, "", goals.get(name, ""))
        if (connections, per) == (8, 10):
            busy = statistics.median([load.busy for load in loads["bare"]])
            report.add(GROUP, f"{cell}: the client's own use of a core against the bare handler", busy, "core")

    def _fresh(self, bodies: Bodies) -> list[bytes]:
        count = max(64, int(_PREPARED * self._seconds) // bodies.per)
        return bodies.requests(self._numbers.take(count * bodies.per), count)

    def references(self, report: Report) -> None:
        """At 8 x 10: one SQLite row a delivery on the bare server, and Remediator that acts on all it accepts."""
        bodies = Bodies(10)
        with ExitStack() as stack:
            rows = stack.enter_context(bare_server(self._directory, self._directory / "rows.db"))
            acting = stack.enter_context(remediator(self._directory, "acting", ACTS, self._target.port))
            theirs, ours = stack.enter_context(Client(rows.port, 8)), stack.enter_context(Client(acting.port, 8))
            turns: dict[str, Callable[[], Load]] = {
                "rows": lambda: theirs.closed_loop(endless(bodies.requests(0, _KNOWN)), self._seconds),
            }
            loads = take_turns(turns, self._rounds)
            rate = statistics.median([load.rate for load in loads["rows"]]) * 10
            cell = " 8 connections x 10 alerts"
            report.add(GROUP, f"{cell}: bare handler and one SQLite row a body", rate, "alerts/s")
            self._target.read("/forget")
            load = ours.closed_loop(self._fresh(bodies), 2 * self._seconds)
            acted = len(arrivals(self._target))
            report.add(GROUP, f"{cell}: all new, acted on at once: accepted", load.rate * 10, "alerts/s")
            report.add(GROUP, f"{cell}: the same, acted on meanwhile", acted / load.seconds, "runs/s")


def bare_server(directory: Path, rows: Path | str = "") -> Process:
    """The bare server, which keeps a row for each body where ``rows`` says so: a file, or a database's address."""
    port = free_port()
    argv = ["-m", "tests.bench.bare", str(port), *([str(rows)] if rows else [])]
    return Process(argv, port=port, ready="/-/ready", log=directory / "bare.log")


def take_turns(turns: dict[str, Callable[[], Load]], rounds: int) -> dict[str, list[Load]]:
    """The loads of all ``turns``, one after the other in each round, so that what drifts drifts for all of them."""
    loads: dict[str, list[Load]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            loads[name].append(turn())
    return loads
