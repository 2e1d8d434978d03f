"""How long one alert takes: to its answer, to the action it leads to, and a thousand of them at once."""

from __future__ import annotations

import os
import socket
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bodies import Bodies, Numbers
from tests.bench.client import Client
from tests.bench.figures import Report
from tests.bench.processes import Process
from tests.bench.service import ACTS, VERIFIES, WAITS, arrivals, remediator

ANSWER = "From a request to its answer, one all-new alert a body, 8 connections"
ACTION = "From the first byte of an alert to the arrival of the action at its target"
_BURST = 1000


def answers(report: Report, directory: Path, target: Process, *, seconds: float) -> None:
    """Delay of the answer at a moderate rate and in a closed loop."""
    bodies, numbers = Bodies(1), Numbers()
    with remediator(directory, "answers", WAITS, target.port) as service, Client(service.port, 8) as client:
        client.closed_loop(bodies.requests(numbers.take(500), 500), 60)
        for rate in (100, 500):
            load = client.at_rate(bodies.requests(numbers.take(int(rate * seconds)), int(rate * seconds)), rate)
            report.add(ANSWER, f"{rate} a second: p50", load.delay(0.5) * 1000, "ms")
            report.add(ANSWER, f"{rate} a second: p99", load.delay(0.99) * 1000, "ms", "<= 15")
        count = int(10_000 * seconds)
        load = client.closed_loop(bodies.requests(numbers.take(count), count), seconds)
        report.add(ANSWER, "closed loop: p50", load.delay(0.5) * 1000, "ms")
        report.add(ANSWER, "closed loop: p99", load.delay(0.99) * 1000, "ms", "<= 15")


def actions(report: Report, directory: Path, target: Process, *, seconds: float) -> None:
    """Alert to action at 5 a second, and what of it is the target's own."""
    own, disk = _own_delay(target), _disk_delay(directory)
    target.read("/forget")
    count = int(5 * seconds)
    requests, sent = Bodies(1).requests(0, count), {}
    with remediator(directory, "actions", ACTS, target.port) as service, Client(service.port, 1) as client:
        client.closed_loop(Bodies(1, alertname="Unknown").requests(0, 20), 10)
        for number, request in enumerate(requests):
            began = sent[f"{number:08d}"] = time.monotonic()
            client.closed_loop([request], 10)
            time.sleep(max(0.0, 0.2 - (time.monotonic() - began)))
        target.read(f"/wait?{count}")
    delays = sorted(at - sent[number] for number, at in arrivals(target).items())
    report.add(ACTION, "the target's own: connect and first byte, p50", own * 1000, "ms")
    words = "the disk's own: 64 KiB made durable at this pace, p50; three such commits lie between"
    report.add(ACTION, words, disk * 1000, "ms")
    report.add(ACTION, "at 5 a second: p50, without the target's own", (_share(delays, 0.5) - own) * 1000, "ms", "<= 5")
    report.add(ACTION, "at 5 a second: p99, without the target's own", (_share(delays, 0.99) - own) * 1000, "ms")


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _own_delay(target: Process) -> float:
    """From the start of a fresh connection to the arrival of its first byte, median, seconds."""
    target.read("/forget")
    sent = {}
    for number in range(50):
        sent[str(number)] = time.monotonic()
        body = b'{"number":"%d"}' % number
        with socket.create_connection(("127.0.0.1", target.port)) as wire:
            wire.sendall(b"POST /act HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            wire.recv(1000)
        time.sleep(0.01)
    return statistics.median([at - sent[number] for number, at in arrivals(target).items()])


def _disk_delay(directory: Path) -> float:
    """How long the disk takes to make durable what a commit writes, a few times a second, median, seconds.

    A disk that is asked now and then takes longer than one that is asked all the time.
    """
    taken = []
    with (directory / "disk").open("wb", buffering=0) as file:
        for _ in range(15):
            file.write(b"x" * 65536)
            began = time.monotonic()
            os.fdatasync(file.fileno())
            taken.append(time.monotonic() - began)
            time.sleep(0.1)
    return statistics.median(taken)


def bursts(report: Report, directory: Path, target: Process, *, rounds: int) -> None:
    """A thousand distinct alerts at once, until the thousandth action arrived."""
    rules = {"": ACTS, ", each waiting to see its alert resolve": VERIFIES}
    with ExitStack() as stack:
        for words, rule in rules.items():
            service = stack.enter_context(remediator(directory, f"burst{len(words)}", rule, target.port))
            taken, cpu, numbers = [], [], Numbers()
            for _ in range(rounds):
                before = service.cpu()
                taken.append(_burst(service, target, numbers.take(_BURST)))
                cpu.append(service.cpu() - before)
            name = f"{_BURST} distinct alerts on 32 connections{words}"
            report.add(ACTION, f"{name}: last action", statistics.median(taken), "s", "" if words else "<= 1")
            report.add(ACTION, f"{name}: processor time", statistics.median(cpu), "s")


def _burst(service: Process, target: Process, first: int) -> float:
    target.read("/forget")
    time.sleep(1.0)
    requests = Bodies(1).requests(first, _BURST)
    with Client(service.port, 32) as client:
        began = time.monotonic()
        client.closed_loop(requests, 60)
        target.read(f"/wait?{_BURST}")
    return max(arrivals(target).values()) - began
