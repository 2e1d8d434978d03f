"""A container as far as actions and probes look: never its environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.errors import PermanentError

_LABEL = "com.docker.compose."


class Unfinished(Exception):
    """Of several things some were done and some were not: the whole is neither done nor certainly not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """One container of a service. ``started`` is another text after every start; ``hash`` that of its configuration."""

    id: str
    service: str
    number: int
    state: str
    health: str
    exit_code: int
    started: str
    restarts: int
    image: str
    hash: str
    tty: bool

    @property
    def running(self) -> bool:
        """True unless it is stopped, dead, or was never started."""
        return self.state in ("running", "restarting", "paused")

    @property
    def well(self) -> bool:
        """True if it runs and, where it has a health check, is healthy."""
        return self.state == "running" and self.health in ("none", "healthy")

    @property
    def started_at(self) -> float:
        """Unix seconds; 0 for one that was never started."""
        try:
            # The Engine writes nanoseconds, which Python's dates do not hold.
            return max(0.0, datetime.fromisoformat(f"{self.started[:19]}+00:00").timestamp())
        except ValueError:
            return 0.0

    @classmethod
    def of(cls, seen: Mapping[str, Any]) -> Container:
        """What ``GET /containers/{id}/json`` says."""
        state, config = seen["State"], seen["Config"]
        labels = config.get("Labels") or {}
        return cls(
            id=str(seen["Id"]),
            service=str(labels.get(_LABEL + "service", "")),
            number=int(labels.get(_LABEL + "container-number") or 0),
            state=str(state["Status"]),
            health=str((state.get("Health") or {}).get("Status") or "none"),
            exit_code=int(state.get("ExitCode") or 0),
            started=str(state.get("StartedAt") or ""),
            restarts=int(seen.get("RestartCount") or 0),
            image=str(config.get("Image") or ""),
            hash=str(labels.get(_LABEL + "config-hash", "")),
            tty=bool(config.get("Tty")),
        )


def of_service(
    found: Iterable[Container], service: str, numbers: Iterable[int] | None = None
) -> list[Container]:
    """The containers of ``service``; with ``numbers`` only those, and all of those.

    Raises PermanentError where there are none.
    """
    mine = [each for each in found if each.service == service]
    if not mine:
        raise PermanentError(f'the project has no container of a service "{service}"', reason="not_found")
    if numbers is not None:
        wanted = set(numbers)
        if gone := wanted - {each.number for each in mine}:
            raise PermanentError(f"{service} no longer has the container {min(gone)}", reason="changed")
        mine = [each for each in mine if each.number in wanted]
    return mine


def numbers(containers: Iterable[Container]) -> list[int]:
    """The numbers of containers, sorted."""
    return sorted(each.number for each in containers)
