"""A real Docker Engine for tests: its own data and socket in a temporary folder, ended by its process id.

It has no network of its own and leaves the host's firewall alone. Its one image holds nothing but busybox. It needs
root; on a machine where it cannot start, ``REMEDIATOR_TESTS_WITHOUT=docker`` switches these tests off by name.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from remediator.integrations.compose.target import ComposeTarget
from tests.integrations.support import WITHOUT
from tests.servers import Server, program

IMAGE = "remediator-tests:busybox"
_START = 30.0
_numbers = itertools.count()
_SLEEPS = ["sleep", "100000"]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """``dockerd``; ``project()`` gives a Compose project of its own to each test."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="remediator-docker-"))
        self.socket = str(self.directory / "socket")
        argv: list[str | Path] = [
            program("dockerd"), "--host", f"unix://{self.socket}", "--data-root", self.directory / "data",
            "--exec-root", self.directory / "exec", "--pidfile", self.directory / "pid", "--storage-driver", "vfs",
            "--iptables=false", "--ip-masq=false", "--ip-forward=false", "--bridge=none",
        ]  # fmt: skip
        log = self.directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        self.server = Server(name="dockerd", url="", directory=self.directory, log=log, process=process)
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/_ping") == b"OK":
                    break
            if not self.server.running or time.monotonic() > deadline:
                why = self.server.log_tail(8)
                self.stop()
                raise AssertionError(f"the Docker Engine does not start here; {WITHOUT}=docker does without\n{why}")
            time.sleep(0.05)
        self.request("POST", f"/images/create?fromSrc=-&repo={IMAGE.replace(':', '&tag=')}", _rootfs())

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One call of the Engine API. Raises AssertionError with what the Engine says."""
        connection = _Connection(self.socket)
        kind = "application/json" if body is None or body[:1] in (b"{", b"[") else "application/x-tar"
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 400, f"{method} {path}: {answer.status} {said.decode(errors='replace')}"
        return said

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a question."""
        words = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in query.items()}
        return json.loads(self.request("GET", f"{path}?{urllib.parse.urlencode(words)}"))

    def events(self, project: str, action: str, since: float) -> int:
        """How often something happened to containers of the project."""
        filters = {"label": [f"com.docker.compose.project={project}"], "event": [action], "type": ["container"]}
        query = urllib.parse.urlencode(
            {"since": f"{since:.6f}", "until": f"{time.time():.6f}", "filters": json.dumps(filters)}
        )
        return len(self.request("GET", f"/events?{query}").splitlines())

    @contextmanager
    def project(self, services: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Project]:
        """A folder with a Compose file, and no container yet."""
        it = Project(self, f"project{next(_numbers)}", Path(tempfile.mkdtemp(dir=self.directory)))
        it.write(services or {"worker": {}})
        try:
            yield it
        finally:
            for each in it.containers():
                self.request("DELETE", f"/containers/{each['Id']}?force=true&v=true")

    def stop(self) -> None:
        """End it with everything it runs; what it mounted is taken down by itself."""
        self.server.kill(signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            self.server.wait(15)
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _rootfs() -> bytes:
    """A file system that holds busybox under all of its names that are used."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(program("busybox"), "bin/busybox")
        for name in ("sh", "sleep", "cat", "echo", "test", "env", "rm", "touch", "kill", "printf"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "data"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(folder)
    return out.getvalue()


@dataclass
class Project:
    """One Compose project."""

    engine: Engine
    name: str
    directory: Path
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the Compose file; every service sleeps without a network unless it says otherwise."""
        base = {"image": IMAGE, "network_mode": "none", "command": _SLEEPS, "stop_signal": "SIGKILL"}
        self.services = {name: {**base, **more} for name, more in services.items()}
        text = yaml.safe_dump({"version": "3.8", "services": self.services})
        # Compose would fill in what looks like a variable.
        (self.directory / "docker-compose.yml").write_text(text.replace("$", "$$"))
        (self.directory / ".env").touch()

    def compose(self, *words: str) -> str:
        """What Compose itself prints."""
        done = subprocess.run(
            [program("docker-compose"), "--project-name", self.name, *words],
            cwd=self.directory, env={"PATH": "/usr/bin:/bin", "DOCKER_HOST": f"unix://{self.engine.socket}"},
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        """One running container of every service, quicker than Compose makes them."""
        for name in self.services:
            self.create(name)

    def create(self, service: str, number: int = 1, *, start: bool = True) -> str:
        """One container with the labels that Compose writes, of an older configuration; its id."""
        definition = self.services[service]
        body = {
            "Image": definition["image"],
            "Cmd": definition["command"],
            "StopSignal": definition["stop_signal"],
            "Env": [f"{key}={value}" for key, value in definition.get("environment", {}).items()],
            "Tty": definition.get("tty", False),
            "HostConfig": {"NetworkMode": "none"},
            "Labels": {
                "com.docker.compose.project": self.name,
                "com.docker.compose.service": service,
                "com.docker.compose.container-number": str(number),
                "com.docker.compose.oneoff": "False",
                "com.docker.compose.config-hash": "0" * 64,
                "com.docker.compose.version": "1.29.2",
            },
        }
        if check := definition.get("healthcheck"):
            body["Healthcheck"] = {"Test": check["test"], "Interval": 200_000_000, "Retries": 2, "Timeout": 10**9}
        made = self.engine.request(
            "POST", f"/containers/create?name={self.name}_{service}_{number}", json.dumps(body).encode()
        )
        found: str = json.loads(made)["Id"]
        if start:
            self.engine.request("POST", f"/containers/{found}/start")
        return found

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """All containers as the Engine lists them, by service and number."""
        labels = [f"com.docker.compose.project={self.name}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        found: list[dict[str, Any]] = self.engine.get("/containers/json", all="1", filters={"label": labels})
        return sorted(found, key=lambda each: str(each["Names"]))

    def states(self) -> dict[str, str]:
        """Name of a container without its project → its state."""
        return {each["Names"][0].split("_", 1)[1]: each["State"] for each in self.containers()}

    def inspect(self, service: str, number: int = 1) -> dict[str, Any]:
        """Everything about one container."""
        found: dict[str, Any] = self.engine.get(f"/containers/{self.name}_{service}_{number}/json")
        return found

    def target(self, **others: Any) -> ComposeTarget:
        """A target that permits everything."""
        settings = {
            "project": self.name,
            "socket": self.engine.socket,
            "directory": str(self.directory),
            "compose": [program("docker-compose")],
            "permit": {"actions": ["compose.*"], "services": ["*"], "variables": ["*"]},
            **others,
        }
        return ComposeTarget.model_validate(settings)


_running: list[Engine] = []


def engine() -> Engine:
    """The one Engine of this session."""
    if not _running:
        _running.append(Engine())
    return _running[0]


def stop() -> None:
    """End it, if it was ever started."""
    with contextlib.suppress(IndexError):
        _running.pop().stop()
