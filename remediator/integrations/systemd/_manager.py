"""The few words spoken with systemd, through systemctl(1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations import _host
from remediator.integrations._process import Ended, Interrupted
from remediator.integrations.systemd.target import UNIT, SystemdTarget

Unit = Annotated[str, Field(pattern=UNIT)]
"""A unit by its full name: a service, a socket or a timer (systemd.unit(5))."""

_PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "MainPID", "NRestarts", "InvocationID",
)  # fmt: skip
_DENIED = ("Access denied", "Interactive authentication required", "Permission denied", "a password is required")


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What ``systemctl show`` says of a unit. ``invocation`` is another one after every start (systemd.exec(5))."""

    load: str
    active: str
    sub: str
    enabled: str
    result: str
    pid: int
    restarts: int
    invocation: str


async def show(target: SystemdTarget, unit: str) -> State:
    """The unit. Raises PermanentError if there is none or asking is denied, TemporaryError without an answer."""
    words = ["show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", unit]
    try:
        ended = await _execute(target, words)
    except Interrupted as error:
        raise TemporaryError(f"systemctl show gave no answer: {error}", reason="unanswered") from None
    if ended.code != 0:
        _refuse_denied(ended)
        raise TemporaryError(f"systemctl show exited with {ended.code}: {_words(ended)}", reason="exit_code")
    said = dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
    if "LoadState" not in said or "ActiveState" not in said:
        raise TemporaryError("systemctl show printed something that is no unit", reason="malformed")
    load = said["LoadState"]
    if load != "loaded":
        raise PermanentError(f"{unit} is {load}", reason=load.replace("-", "_") or "not_found")
    return State(
        load=load,
        active=said["ActiveState"],
        sub=said.get("SubState", ""),
        enabled=said.get("UnitFileState", ""),
        result=said.get("Result", ""),
        pid=_number(said.get("MainPID", "")),
        restarts=_number(said.get("NRestarts", "")),
        invocation=said.get("InvocationID", ""),
    )


async def restart(target: SystemdTarget, unit: str, check: Callable[[], None]) -> None:
    """Restart the unit and wait for it. Raises PermanentError if it is denied, Interrupted if nobody knows."""
    ended = await _execute(target, ["restart", "--no-ask-password", "--", unit], check)
    if ended.code != 0:
        _refuse_denied(ended)
        raise Interrupted(f"systemctl restart {unit} exited with {ended.code}: {_words(ended)}")


def _refuse_denied(ended: Ended) -> None:
    if any(text in ended.stderr for text in _DENIED):
        raise PermanentError(f"systemd does not allow it: {_words(ended)}", reason="permission")


def _words(ended: Ended) -> str:
    return (ended.stderr or ended.stdout).strip()[-300:]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


async def _execute(target: SystemdTarget, words: Sequence[str], check: Callable[[], None] = lambda: None) -> Ended:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return await _host.execute(
        target.ssh,
        [*target.command, *words],
        directory="/",
        environment={"PATH": path, "LANG": "C.UTF-8"},
        seconds=target.timeout,
        limit=64 * 1024,
        secrets=[],
        check=check,
    )
