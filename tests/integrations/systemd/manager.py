"""A stand-in of ``systemctl`` and the units behind it: systemd itself runs only as the first process of a machine.

It speaks the few words that are used, with the output and exit statuses of systemctl(1) 252: ``show`` of a unit that
is not there succeeds and says ``LoadState=not-found``; ``restart`` gives the unit another InvocationID, waits for it,
and fails with the sentences of the real one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from remediator.integrations.systemd.target import SystemdTarget

_PROGRAM = r"""
import json, sys, time, uuid
from pathlib import Path

folder = Path(__file__).parent
words = sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\n")
verb, unit = words[0], words[words.index("--") + 1]
state = json.loads((folder / "state").read_text())
behaviour = state["behaviour"]
if behaviour.get(verb) == "hang":
    time.sleep(60)
if behaviour.get(verb) == "denied":
    sys.exit(f"Failed to {verb} {unit}: Access denied")
if behaviour.get(verb) == "bus":
    sys.exit("Failed to connect to bus: Connection refused")
known = state["units"].get(unit)
if verb == "show":
    names = next(word for word in words if word.startswith("--property=")).partition("=")[2].split(",")
    empty = {"Id": unit, "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "MainPID": "0"}
    for name in names:
        print(f"{name}={(known or empty).get(name, '')}")
elif known is None:
    print(f"Failed to restart {unit}: Unit {unit} not found.", file=sys.stderr)
    sys.exit(5)
elif verb == "restart":
    known |= {"InvocationID": uuid.uuid4().hex, "ActiveState": "active", "SubState": "running", "Result": "success"}
    if behaviour.get("start") == "fails":
        known |= {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
    (folder / "state").write_text(json.dumps(state))
    with (folder / "effects").open("a") as effects:
        effects.write(f"{unit}\n")
    if behaviour.get(verb) == "hang after":
        time.sleep(60)
    if known["ActiveState"] == "failed":
        sys.exit(f"Job for {unit} failed because the control process exited with error code.")
"""


class Manager:
    """Units in a folder, and a ``systemctl`` that knows them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "systemd"
        self.directory.mkdir()
        self.program = self.directory / "systemctl.py"
        self.program.write_text(_PROGRAM)
        self._state: dict[str, Any] = {"units": {}, "behaviour": {}}
        self.add("redis.service")

    def _write(self) -> None:
        (self.directory / "state").write_text(json.dumps(self._state))

    def add(self, unit: str, active: str = "active", **properties: str) -> None:
        """A unit."""
        self._state["units"][unit] = {
            "Id": unit, "LoadState": "loaded", "ActiveState": active, "SubState": "running", "UnitFileState": "enabled",
            "Result": "success", "MainPID": "4711", "NRestarts": "0", "InvocationID": "0" * 32, **properties,
        }  # fmt: skip
        self._write()

    def behave(self, **behaviour: str) -> None:
        """What goes wrong from now on, by verb."""
        if (self.directory / "state").exists():
            self._state = json.loads((self.directory / "state").read_text())
        self._state["behaviour"] = behaviour
        self._write()

    def calls(self) -> list[list[str]]:
        """The words of every call."""
        path = self.directory / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def effects(self) -> int:
        """How many units were restarted."""
        path = self.directory / "effects"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def target(self, **others: Any) -> SystemdTarget:
        """A target that lists redis.service."""
        permit = {"actions": ["systemd.*"], "units": ["redis.service"]}
        command = [sys.executable, "-S", "-E", str(self.program)]
        return SystemdTarget.model_validate({"command": command, "permit": permit, **others})
