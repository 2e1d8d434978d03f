"""The few words spoken with a pm2 daemon, through its own command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations import _host
from remediator.integrations._process import Ended, Interrupted
from remediator.integrations.pm2._names import ALL
from remediator.integrations.pm2.target import Pm2Target

_LIST_LIMIT = 32 * 1024 * 1024
_SMALL = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One instance. Of what ``pm2 jlist`` prints, which holds every process' environment, nothing else is kept."""

    id: int
    name: str
    pid: int
    status: str
    mode: str
    restarts: int
    unstable_restarts: int
    started_at: float
    memory: int
    cpu: float
    out_log: str
    error_log: str

    @property
    def stopped(self) -> bool:
        """True if somebody stopped it; a process that fails is ``errored`` and wants to run."""
        return self.status in ("stopped", "stopping")

    @property
    def life(self) -> list[float]:
        """What is different after every start."""
        return [self.pid, self.started_at]


async def processes(target: Pm2Target, name: str, ids: Iterable[int] | None = None) -> list[Process]:
    """The instances of ``name`` (everything for ``all``), by id; with ``ids`` only those, and all of those.

    Raises PermanentError where there are none, TemporaryError where the daemon gave no answer.
    """
    found = [each for each in await _listed(target) if name in (ALL, each.name)]
    if not found:
        raise PermanentError(f'pm2 runs no process named "{name}"', reason="not_found")
    if ids is not None:
        wanted = set(ids)
        if gone := wanted - {each.id for each in found}:
            raise PermanentError(f"{name} no longer has the instance {min(gone)}", reason="changed")
        found = [each for each in found if each.id in wanted]
    return sorted(found, key=lambda each: each.id)


async def _listed(target: Pm2Target) -> list[Process]:
    await _alive(target)
    ended = await _read(target, [target.program, "jlist"], _LIST_LIMIT)
    if ended.code != 0:
        raise TemporaryError(f"pm2 jlist exited with {ended.code}", reason="exit_code")
    # pm2 may say something about itself on lines before the list.
    line = next((line for line in reversed(ended.stdout.splitlines()) if line.startswith("[")), "")
    try:
        return [_process(entry) for entry in json.loads(line)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TemporaryError("pm2 jlist printed something that is not its list", reason="malformed") from None


def _process(entry: dict[str, Any]) -> Process:
    env, monit = entry["pm2_env"], entry.get("monit") or {}
    return Process(
        id=int(entry["pm_id"]),
        name=str(entry["name"]),
        pid=int(entry.get("pid") or 0),
        status=str(env["status"]),
        mode=str(env.get("exec_mode", "")).removesuffix("_mode"),
        restarts=int(env.get("restart_time") or 0),
        unstable_restarts=int(env.get("unstable_restarts") or 0),
        started_at=float(env.get("pm_uptime") or 0) / 1000,
        memory=int(monit.get("memory") or 0),
        cpu=float(monit.get("cpu") or 0),
        out_log=str(env.get("pm_out_log_path") or ""),
        error_log=str(env.get("pm_err_log_path") or ""),
    )


async def _alive(target: Pm2Target) -> None:
    """pm2's command line starts a daemon where none runs; looking must not, so the daemon is looked for first."""
    pid = (await read_end(target, f"{target.home}/pm2.pid", 20)).strip()
    line = await read_end(target, f"/proc/{pid}/cmdline", 4096) if pid.isascii() and pid.isdigit() else ""
    if "PM2" not in line:
        raise TemporaryError(f"no pm2 daemon runs for {target.home}", reason="no_daemon")


async def read_end(target: Pm2Target, path: str, limit: int) -> str:
    """The last ``limit`` bytes of a file of that machine; nothing if it is not there. Raises TemporaryError."""
    if target.ssh is not None:
        ended = await _read(target, ["tail", "-c", str(limit), "--", path], limit * 2 + 1024)
        return ended.stdout if ended.code == 0 else ""
    return (await asyncio.to_thread(_tail, path, limit)).decode(errors="replace")


def _tail(path: str, limit: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            if not path.startswith("/proc/"):  # Files of the kernel have no size.
                file.seek(max(0, file.seek(0, 2) - limit))
            return file.read(limit)
    except OSError:
        return b""


async def tell(target: Pm2Target, words: Sequence[str], check: Callable[[], None]) -> None:
    """Run pm2 with ``words``. Raises Interrupted whenever it did not simply succeed: it may have done a part."""
    ended = await _execute(target, [target.program, *words], _SMALL, check)
    if ended.code != 0:
        words_of_it = (ended.stderr or ended.stdout).strip()[-300:]
        raise Interrupted(f"pm2 {words[0]} exited with {ended.code}: {words_of_it}")


async def _read(target: Pm2Target, argv: Sequence[str], limit: int) -> Ended:
    try:
        return await _execute(target, argv, limit)
    except Interrupted as error:
        # The last words of a list that was cut may hold an environment, so they are not repeated.
        raise TemporaryError(f"{argv[0]} gave no answer", reason="unanswered") from error.__cause__


async def _execute(
    target: Pm2Target, argv: Sequence[str], limit: int, check: Callable[[], None] = lambda: None
) -> Ended:
    environment = {"PATH": target.path, "LANG": "C.UTF-8", "PM2_HOME": target.home, "HOME": target.home}
    return await _host.execute(
        target.ssh,
        argv,
        directory="/",
        environment=environment,
        seconds=target.timeout,
        limit=limit,
        secrets=[],
        check=check,
    )
