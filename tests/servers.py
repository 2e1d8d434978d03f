"""Starts and ends the real servers that tests talk to: Prometheus, Alertmanager, Pushgateway, Remediator.

Every server listens on a free port of 127.0.0.1, keeps its files in a temporary folder of its own, and is
ended by exactly its process id. Each comes twice: ``start_x`` blocks until it answers and leaves ``stop`` to
the caller; ``x`` (and ``serve`` for Remediator) is the same as an async context manager. A missing program is
an error, never a skipped test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec

import yaml

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds pyproject.toml."""

START_SECONDS = 20.0
"""How long a server may take until it answers; it takes well under one second on an idle machine."""

STOP_SECONDS = 10.0
"""How long a server may take to end after SIGTERM before it is killed."""

# Below the ports that Linux hands to outgoing connections (32768 and up), so that no client of another test
# can sit on a port between the moment we choose it and the moment the server binds it.
_PORTS = range(20_000, 32_000)
_handed_out: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, never the same one twice in one process."""
    for _ in range(1_000):
        port = random.choice(_PORTS)
        if port in _handed_out:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _handed_out.add(port)
                return port
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def program(*names: str) -> str:
    """The full path of the first of ``names`` that is installed.

    Raises AssertionError that says how to get it.
    """
    for name in names:
        # Debian puts servers in /usr/sbin too, which is not on the PATH of an ordinary user.
        if path := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"):
            return path
    raise AssertionError(f'{" or ".join(names)} is not installed; "make test" installs what the tests need')


def freeze(pid: int) -> None:
    """Stop a process where it stands: SIGSTOP, and wait until each of its threads has noticed.

    On a busy machine a thread goes on for a while, and answers what nobody should have answered.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_SECONDS
    while any(_state(thread) not in "TtZX" for thread in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def _state(thread: Path) -> str:
    """The letter of a thread's state (proc(5)); one that has just ended is as good as stopped."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


@dataclass(kw_only=True)
class Server:
    """A process that a test started and that answers on ``url``."""

    name: str
    url: str
    """``http://127.0.0.1:PORT``, without a slash at the end."""
    directory: Path
    """Working folder of the process; removed by ``stop``."""
    log: Path
    """What the process printed, standard output and standard error together."""
    process: subprocess.Popen[bytes]
    cluster: str = ""
    """Address for the ``peers`` of another Alertmanager; empty where this one has no cluster."""

    @property
    def pid(self) -> int:
        """Process id of the server itself: there is no shell in between."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """False once the process has ended, by itself or by a signal."""
        return self.process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        """The last ``lines`` lines of the log, for messages of failed tests."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send ``sig`` to this process and to no other; returns at once, after SIGSTOP once it stands still."""
        if self.running and sig is signal.SIGSTOP:
            freeze(self.process.pid)
        elif self.running:
            self.process.send_signal(sig)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Exit status once the process has ended, negative for a signal.

        Raises AssertionError after ``seconds``.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds} s\n{self.log_tail()}") from None

    def stop(self) -> int:
        """End the process (SIGTERM, then SIGKILL), remove its folder, return the exit status. Repeatable."""
        if self.running:
            self.kill(signal.SIGTERM)
            # A stopped process takes the signal only when it is woken.
            self.kill(signal.SIGCONT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill(signal.SIGKILL)
        status = self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        return status

    def wait_ready(self, path: str = "/-/ready", seconds: float = START_SECONDS) -> None:
        """Return once ``path`` answers 200.

        Raises AssertionError with the log when it does not within ``seconds``, or when the process ends.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.log_tail()}")
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
                urllib.request.urlopen(self.url + path, timeout=2),  # anything but 2xx raises HTTPError
            ):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.name} does not answer {path} after {seconds} s\n{self.log_tail()}")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(kw_only=True)
class _Launch:
    """A folder and a port for a server that is about to start."""

    name: str
    port: int = field(default_factory=free_port)
    directory: Path = field(init=False)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"remediator-{self.name}-"))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        ready: bool = True,
        cluster: str = "",
    ) -> Server:
        log = self.directory / f"{self.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=self.directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        server = Server(
            name=self.name,
            url=f"http://{self.address}",
            directory=self.directory,
            log=log,
            process=process,
            cluster=cluster,
        )
        if ready:
            try:
                server.wait_ready()
            except BaseException:
                server.stop()
                raise
        return server


def start_prometheus(
    config: str | None = None,
    *,
    targets: Sequence[str] = (),
    rules: Mapping[str, str] | None = None,
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    interval: str = "200ms",
    flags: Sequence[str] = (),
) -> Server:
    """Prometheus.

    ``config`` is its configuration as text and then the whole of it. Without one, it scrapes ``targets``
    (``host:port`` or the URL of a server), evaluates the rules of ``rules`` (file name → text) and
    ``rule_files`` every ``interval``, and sends alerts to ``alertmanagers``. Prometheus 2 asks its targets
    for the first time about five seconds after it started, whatever ``interval`` says.
    """
    launch = _Launch(name="prometheus")
    written = [launch.write(name, text) for name, text in (rules or {}).items()]
    if config is None:
        config = yaml.safe_dump(
            _prometheus_config([*written, *rule_files], targets, alertmanagers, interval), sort_keys=False
        )
    path = launch.write("prometheus.yml", config)
    return launch.run(
        [
            program("prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={launch.directory / 'data'}",
            f"--web.listen-address={launch.address}",
            "--web.enable-lifecycle",
            *flags,
        ]
    )


def _prometheus_config(
    rule_files: Sequence[Path], targets: Sequence[str], alertmanagers: Sequence[str], interval: str
) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path.resolve()) for path in rule_files],
        "scrape_configs": [
            {
                "job_name": "tests",
                "honor_labels": True,  # a pushed metric keeps the labels it was pushed with
                "static_configs": [{"targets": [_host_port(target) for target in targets]}],
            }
        ],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [_host_port(each) for each in alertmanagers]}]}]
        },
    }


def _host_port(url: str) -> str:
    return url.removeprefix("http://").rstrip("/")


def start_alertmanager(
    config: str, *, peers: Sequence[str] = (), cluster: bool = False, flags: Sequence[str] = ()
) -> Server:
    """Alertmanager with ``config`` as text.

    For a pair, give the first one ``cluster=True`` and the second one ``peers=[first.cluster]``. A member of
    a cluster waits (its place times ``--cluster.peer-timeout``, 15 s) before it sends what another may have
    sent already.
    """
    launch = _Launch(name="alertmanager")
    gossip = f"127.0.0.1:{free_port()}" if cluster or peers else ""
    argv: list[str | Path] = [
        program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={launch.write('alertmanager.yml', config)}",
        f"--storage.path={launch.directory / 'data'}",
        f"--web.listen-address={launch.address}",
        f"--cluster.listen-address={gossip}",
    ]
    if gossip:
        # Settling waits for the membership to be quiet for ten seconds, which tests of two members need not.
        argv += [f"--cluster.advertise-address={gossip}", "--cluster.settle-timeout=1s"]
        argv += [f"--cluster.peer={peer}" for peer in peers]
    return launch.run([*argv, *flags], cluster=gossip)


def start_pushgateway(*, flags: Sequence[str] = ()) -> Server:
    """Pushgateway: ``PUT url/metrics/job/NAME`` with lines of the text format, for Prometheus to scrape."""
    launch = _Launch(name="pushgateway")
    return launch.run(
        [
            program("prometheus-pushgateway", "pushgateway"),
            f"--web.listen-address={launch.address}",
            *flags,
        ]
    )


def start_remediator(
    config: Path,
    *flags: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    ready: bool = True,
    interpreter: Sequence[str] = (),
) -> Server:
    """Our own service as a process of its own: ``remediator serve --config.file config flags…``.

    ``port`` restarts one on the address it had before. ``ready=False`` returns at once, for tests of a start
    that must fail or crash. ``interpreter`` are options of Python itself. The folder of ``config`` belongs to
    the caller and survives ``stop``.
    """
    launch = _Launch(name="remediator") if port is None else _Launch(name="remediator", port=port)
    argv = [sys.executable, *interpreter, "-m", "remediator", "serve", f"--config.file={config.resolve()}"]
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return launch.run(
        [*argv, f"--web.listen-address={launch.address}", *flags],
        env={"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1", **(env or {})},
        ready=ready,
    )


P = ParamSpec("P")


def _in_context(start: Callable[P, Server]) -> Callable[P, AbstractAsyncContextManager[Server]]:
    """An async context manager with the arguments of ``start``, which ends the server when it is left.

    Starting and stopping happen in a thread: a server may need this very event loop to become ready.
    """

    @asynccontextmanager
    async def running(*args: P.args, **options: P.kwargs) -> AsyncIterator[Server]:
        server = await asyncio.to_thread(start, *args, **options)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)

    return running


prometheus = _in_context(start_prometheus)
alertmanager = _in_context(start_alertmanager)
pushgateway = _in_context(start_pushgateway)
serve = _in_context(start_remediator)
