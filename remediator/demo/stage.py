"""The stage of the demonstration: which processes run, on which addresses, and with which files.

A minting service, Remediator on SQLite, and Prometheus with Alertmanager where they are installed. All of it
listens on 127.0.0.1, lives in one folder, and ends when the stage is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from remediator.clock import Clock
from remediator.demo import monitoring
from remediator.demo.captured import Captured
from remediator.demo.process import Child, free_port

WORKERS_BEFORE = 2
SECONDS_PER_MINT = 0.05


@dataclass
class Stage:
    """Everything that runs, and how to reach it. URLs have no slash at the end."""

    directory: Path
    admin_token: str
    intake_token: str
    minting: str
    remediator: str
    prometheus: str = ""
    """Empty where it is not installed."""
    alertmanager: str = ""
    captured: Captured | None = None
    """What stands in for the two above where they are not installed."""
    children: list[Child] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """The SQLite file of Remediator."""
        return self.directory / "remediator.db"

    @property
    def settings(self) -> Path:
        """Remediator's settings file."""
        return self.directory / "remediator.yaml"

    @property
    def rules(self) -> Path:
        """The folder of Remediator's rules."""
        return self.directory / "rules"

    def tails(self) -> str:
        """The end of every log, for failures."""
        return "\n".join(child.tail() for child in self.children)


def _program(*names: str) -> str | None:
    # Debian puts servers in /usr/sbin too, which is not on the PATH of an ordinary user.
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found:
            return found
    return None


def _secret(path: Path) -> str:
    token = secrets.token_urlsafe(24)
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    return token


def settings_of(stage: Stage) -> dict[str, Any]:
    """Remediator's settings on this stage: one target, of which rules may use two paths."""
    return {
        "web": {"listen_address": stage.remediator.removeprefix("http://"), "external_url": stage.remediator},
        "storage": {"url": f"sqlite:///{stage.database}"},
        "intake": {
            "tokens_file": str(stage.directory / "intake.token"),
            "drop_labels": ["pod", "instance", "replica"],
        },
        "targets": {
            "minting-api": {
                "kind": "http",
                "base_url": stage.minting,
                "bearer_token_file": str(stage.directory / "admin.token"),
                "permit": {
                    "actions": ["http.get", "http.post"],
                    "paths": ["/health/detailed", "/admin/workers"],
                },
            }
        },
        "services": {"minting": {"severities": {"critical": "SEV1", "warning": "SEV3"}}},
    }


def write_rules(folder: Path) -> None:
    """Copy the demonstration's rules to where a person can read and change them."""
    folder.mkdir(exist_ok=True)
    for source in resources.files("remediator.demo").joinpath("rules").iterdir():
        if source.name.endswith(".yaml"):
            (folder / source.name).write_text(source.read_text())


async def _start(stage: Stage, stack: AsyncExitStack, name: str, argv: list[str | Path], ready: str) -> None:
    child = Child(name, argv, log=stage.directory / f"{name}.log", env={"PYTHONUNBUFFERED": "1"})
    stage.children.append(child)
    await stack.enter_async_context(child)
    await child.ready(ready)


async def _start_minting(stage: Stage, stack: AsyncExitStack) -> None:
    argv: list[str | Path] = [sys.executable, "-m", "remediator.demo.minting"]
    argv += ["--listen", stage.minting.removeprefix("http://"), "--data-dir", stage.directory / "minting"]
    argv += ["--token-file", stage.directory / "admin.token", "--allow-faults"]
    argv += ["--seconds-per-mint", str(SECONDS_PER_MINT), "--workers", str(WORKERS_BEFORE)]
    await _start(stage, stack, "minting", argv, stage.minting + "/health")


async def _start_remediator(stage: Stage, stack: AsyncExitStack) -> None:
    stage.settings.write_text(yaml.safe_dump(settings_of(stage), sort_keys=False))
    write_rules(stage.rules)
    argv: list[str | Path] = [sys.executable, "-m", "remediator", "serve"]
    argv += [f"--config.file={stage.settings}", f"--rules.path={stage.rules}"]
    await _start(stage, stack, "remediator", argv, stage.remediator + "/-/ready")


async def _start_monitoring(stage: Stage, stack: AsyncExitStack, prometheus: str, alertmanager: str) -> None:
    at = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    stage.prometheus, stage.alertmanager = (f"http://{address}" for address in at)
    rules = stage.directory / "alerts"
    rules.mkdir(exist_ok=True)
    for name, text in monitoring.alert_rules().items():
        (rules / name).write_text(text)
    addresses = {
        "minting-service": stage.minting.removeprefix("http://"),
        "remediator": stage.remediator.removeprefix("http://"),
        "prometheus": at[0],
        "alertmanager": at[1],
    }
    config = stage.directory / "prometheus.yml"
    config.write_text(monitoring.prometheus_config(addresses, at[1], rules))
    routes = stage.directory / "alertmanager.yml"
    webhook = stage.remediator + "/api/v1/alertmanager"
    routes.write_text(monitoring.alertmanager_config(webhook, stage.directory / "intake.token"))
    argv: list[str | Path] = [alertmanager, f"--config.file={routes}", f"--web.listen-address={at[1]}"]
    # An empty cluster address: one Alertmanager, and no port open to the network.
    argv += [f"--storage.path={stage.directory / 'alertmanager'}", "--cluster.listen-address="]
    await _start(stage, stack, "alertmanager", argv, stage.alertmanager + "/-/ready")
    argv = [prometheus, f"--config.file={config}", f"--web.listen-address={at[0]}"]
    # Prometheus finds its Alertmanager some seconds after it starts, and sends again what it could not send
    # before only after this delay: the Watchdog, for one.
    argv += [f"--storage.tsdb.path={stage.directory / 'prometheus'}", "--rules.alert.resend-delay=5s"]
    await _start(stage, stack, "prometheus", argv, stage.prometheus + "/-/ready")


@asynccontextmanager
async def _watching(captured: Captured) -> AsyncIterator[None]:
    task = asyncio.create_task(captured.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, TimeoutError):
            await task


@asynccontextmanager
async def open_stage(directory: Path, clock: Clock, *, prometheus: bool = True) -> AsyncIterator[Stage]:
    """Start everything in ``directory``, which exists, and end it all on the way out.

    Without ``prometheus``, or where it is not installed, captured bodies are sent instead. Raises ChildError
    with the end of its log when a process does not start.
    """
    stage = Stage(
        directory=directory,
        admin_token=_secret(directory / "admin.token"),
        intake_token=_secret(directory / "intake.token"),
        minting=f"http://127.0.0.1:{free_port()}",
        remediator=f"http://127.0.0.1:{free_port()}",
    )
    servers = _program("prometheus"), _program("prometheus-alertmanager", "alertmanager")
    async with AsyncExitStack() as stack:
        await _start_minting(stage, stack)
        await _start_remediator(stage, stack)
        if prometheus and servers[0] and servers[1]:
            await _start_monitoring(stage, stack, servers[0], servers[1])
        else:
            stage.captured = Captured(
                metrics=stage.minting + "/metrics",
                webhook=stage.remediator + "/api/v1/alertmanager",
                token=stage.intake_token,
                clock=clock,
            )
            await stack.enter_async_context(_watching(stage.captured))
        yield stage
