"""Replicas on one real PostgreSQL, beside the embedded store and the bare server: rates, processor time, delays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.bodies import Bodies, Numbers, endless
from tests.bench.client import Client, Load
from tests.bench.figures import Report
from tests.bench.processes import Broken, Process
from tests.bench.rates import bare_server, take_turns
from tests.bench.service import ACTS, WAITS, arrivals, remediator
from tests.postgres import PASSWORD, Postgres

RATES = "Replicas on one PostgreSQL: durable accepted alerts, 8 connections x 10 alerts spread over them"
CORES = "Replicas on one PostgreSQL: processor time meanwhile"
DELAYS = "Replicas on one PostgreSQL: one alert at 5 a second, woken by NOTIFY"
_NEW = "all new, a run each"
_KINDS = {_NEW: ">= 0.05", "repeats": ">= 0.2"}
"""What is sent, and the share of the bare server that PostgreSQL should reach."""
_KNOWN = 64
"""Distinct bodies that are repeated."""
_PREPARED = 25_000
"""All-new alerts a second that are prepared for a round."""
_TICK = os.sysconf("SC_CLK_TCK")
_STARTS = (
    "SELECT s.at - q.at FROM audit AS q JOIN audit AS s ON s.run_id = q.run_id"
    " WHERE q.event = 'run.queued' AND s.event = 'run.started'"
)
"""Seconds from the record that a run was opened to the record that a replica has taken it, by the store's clock."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """``count`` services on one store; ``postgres`` is None for the embedded one."""

    name: str
    count: int
    postgres: Postgres | None
    connections: int = 8
    """Over all of them together."""


class Fleets:
    """``seconds`` a round and ``rounds`` of each kind. The server's data lie in the system's temporary folder."""

    def __init__(self, directory: Path, target: Process, *, seconds: float, rounds: int) -> None:
        self._directory = directory
        self._target = target
        self._seconds = seconds
        self._rounds = rounds
        self._numbers = Numbers()
        self._password = directory / "postgres-password"

    def measure(self, report: Report, counts: Sequence[int]) -> None:
        """Rates, cores and delays for the embedded store and for each number of replicas."""
        self._password.write_text(PASSWORD)
        self._password.chmod(0o600)
        with (
            _server() as postgres,
            bare_server(self._directory) as bare,
            bare_server(self._directory, postgres.url()) as rows,
        ):
            fleets = [Fleet("SQLite, 1 process", 1, None)]
            fleets += [Fleet(f"PostgreSQL, {count} replica{'s'[: count > 1]}", count, postgres) for count in counts]
            most = counts[-1]
            wide = Fleet(f"PostgreSQL, {most} replicas, {8 * most} connections", most, postgres, 8 * most)
            self._rates(report, bare, rows, [*fleets, wide])
            for fleet in fleets:
                self._delays(report, fleet)

    @contextmanager
    def _running(self, fleet: Fleet, rules: str, purpose: str) -> Iterator[tuple[list[Process], str]]:
        """The services, all on one empty store, and where it is."""
        name = f"{purpose}_{'postgres' if fleet.postgres else 'sqlite'}_{fleet.count}_{fleet.connections}"
        with ExitStack() as stack:
            if fleet.postgres is None:
                service = stack.enter_context(remediator(self._directory, name, rules, self._target.port))
                yield [service], str(self._directory / name / "remediator.db")
                return
            asyncio.run(fleet.postgres.execute(f"CREATE DATABASE {name}"))
            services = [
                stack.enter_context(
                    remediator(
                        self._directory,
                        f"{name}-{number}",
                        rules,
                        self._target.port,
                        storage=fleet.postgres.url(name, password=""),
                        password_file=self._password,
                    )
                )
                for number in range(fleet.count)
            ]
            yield services, name

    def _rates(self, report: Report, bare: Process, rows: Process, fleets: Sequence[Fleet]) -> None:
        """All fleets stand side by side and take turns, so that what drifts drifts for all of them."""
        bodies = Bodies(10)
        known = bodies.requests(self._numbers.take(_KNOWN * 10), _KNOWN)
        with ExitStack() as stack:
            theirs = stack.enter_context(Client(bare.port, 8))
            kept = stack.enter_context(Client(rows.port, 8))
            turns: dict[str, Callable[[], Load]] = {
                "bare": lambda: theirs.closed_loop(endless(known), self._seconds),
                "rows": lambda: kept.closed_loop(endless(known), self._seconds),
            }
            used: dict[str, list[tuple[float, ...]]] = {}
            for fleet in fleets:
                services, _ = stack.enter_context(self._running(fleet, WAITS, "rates"))
                ours = stack.enter_context(Client([service.port for service in services], fleet.connections))
                ours.closed_loop(known * 2, 60)  # Twice, so that every replica has met bodies that repeat.
                for kind in _KINDS:
                    key = f"{fleet.name}: {kind}"
                    requests = partial(self._fresh, bodies) if kind == _NEW else partial(endless, known)
                    watch = partial(_watched, services, fleet.postgres, ours, self._seconds, used.setdefault(key, []))
                    turns[key] = partial(_turn, watch, requests)
            loads = take_turns(turns, self._rounds)
        rate = {name: statistics.median([load.rate for load in each]) * 10 for name, each in loads.items()}
        report.add(RATES, "bare handler", rate["bare"], "alerts/s")
        words = "bare handler and one PostgreSQL row a body"
        report.add(RATES, words, rate["rows"], "alerts/s")
        report.add(RATES, f"{words}, share of bare", rate["rows"] / rate["bare"], "")
        for fleet in fleets:
            for kind, goal in _KINDS.items():
                key = f"{fleet.name}: {kind}"
                report.add(RATES, key, rate[key], "alerts/s")
                share = rate[key] / rate["bare"]
                report.add(
                    RATES, f"{key}, share of bare", share, "", goal if fleet.postgres and fleet.connections == 8 else ""
                )
        for fleet in fleets:
            for kind in _KINDS:
                key = f"{fleet.name}: {kind}"
                alerts, seconds = (
                    sum(load.answers for load in loads[key]) * 10,
                    sum(load.seconds for load in loads[key]),
                )
                for number, who in enumerate(("Remediator", "PostgreSQL")[: 2 if fleet.postgres else 1]):
                    cpu = sum(each[number] for each in used[key])
                    report.add(CORES, f"{key}: {who}", cpu / seconds, "cores")
                    report.add(CORES, f"{key}: {who}, for each alert", cpu / alerts * 1e6, "µs")

    def _fresh(self, bodies: Bodies) -> Iterable[bytes]:
        count = int(_PREPARED * self._seconds) // bodies.per
        return bodies.requests(self._numbers.take(count * bodies.per), count)

    def _delays(self, report: Report, fleet: Fleet) -> None:
        self._target.read("/forget")
        count = int(5 * self._seconds * self._rounds) + 5
        first = self._numbers.take(count)
        sent, answered = {}, {}
        with (
            self._running(fleet, ACTS, "delays") as (services, where),
            Client([service.port for service in services], fleet.count) as client,
        ):
            client.closed_loop(Bodies(1, alertname="Unknown").requests(0, 20), 10)
            for number, request in enumerate(Bodies(1).requests(first, count), first):
                sent[f"{number:08d}"] = began = time.monotonic()
                client.closed_loop([request], 10)
                answered[f"{number:08d}"] = time.monotonic()
                time.sleep(max(0.0, 0.2 - (time.monotonic() - began)))
            self._target.read(f"/wait?{count}")
            starts = asyncio.run(_starts(fleet.postgres, where))
        if len(starts) < count:
            raise Broken(f"{count} actions were carried out, and the audit knows the start of {len(starts)} runs")
        arrived = arrivals(self._target)
        rows = {
            "run.queued to run.started, p50": starts,
            "200 to the arrival of the action, p50": [at - answered[number] for number, at in arrived.items()],
            "first byte of the alert to the arrival of the action, p50": [
                at - sent[number] for number, at in arrived.items()
            ],
        }
        for words, delays in rows.items():
            goal = "<= 15" if fleet.postgres and words.startswith("run.queued") else ""
            report.add(DELAYS, f"{fleet.name}: {words}", statistics.median(delays) * 1000, "ms", goal)


def _watched(
    services: Sequence[Process],
    postgres: Postgres | None,
    client: Client,
    seconds: float,
    used: list[tuple[float, ...]],
    requests: Iterable[bytes],
) -> Load:
    """One turn; what it cost in processor time is added to ``used``."""
    before = _cpu(services, postgres)
    load = client.closed_loop(requests, seconds)
    used.append(tuple(end - start for start, end in zip(before, _cpu(services, postgres), strict=True)))
    return load


def _turn(watch: Callable[[Iterable[bytes]], Load], requests: Callable[[], Iterable[bytes]]) -> Load:
    # The requests are made before the clock begins to run.
    return watch(requests())


@contextmanager
def _server() -> Iterator[Postgres]:
    """A PostgreSQL with the defaults of its makers: every commit waits for the disk. Raises Broken."""
    server = Postgres()
    try:
        server.make()
        server.start()
        [row] = asyncio.run(server.fetch("SELECT current_setting('fsync') || current_setting('synchronous_commit')"))
        if row[0] != "onon":
            raise Broken("this PostgreSQL does not make its commits durable")
        yield server
    except AssertionError as error:
        raise Broken(str(error)) from error
    finally:
        server.remove()


async def _starts(postgres: Postgres | None, where: str) -> list[float]:
    if postgres is not None:
        url = f"{postgres.url(where)}?search_path=remediator"
        return [float(row[0]) for row in await postgres.fetch(_STARTS, url=url)]
    with contextlib.closing(sqlite3.connect(where)) as connection:
        return [float(row[0]) for row in connection.execute(_STARTS)]


def _cpu(services: Sequence[Process], postgres: Postgres | None) -> tuple[float, float]:
    """Seconds of processor time so far: of the services, and of every process of the database server."""
    return sum(service.cpu() for service in services), 0.0 if postgres is None else _cpu_of(postgres)


def _cpu_of(postgres: Postgres) -> float:
    first = int((postgres.data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    ticks = 0
    for pid in (first, *map(int, children)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # A worker of the server may end meanwhile.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # The first process also counts those of its children that have ended (proc(5), cutime and cstime).
            ticks += sum(int(field) for field in fields[11 : 15 if pid == first else 13])
    return ticks / _TICK
