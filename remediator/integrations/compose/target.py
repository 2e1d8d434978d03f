"""The settings of a target of kind ``compose``: one project, its Engine, its files, and its order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, field_validator, model_validator

from remediator.clock import Duration
from remediator.integrations.compose._names import Service
from remediator.target import Target

if TYPE_CHECKING:
    from remediator.integrations.compose._engine import Engine

_NAME = r"^[a-z][a-z0-9_-]{0,62}$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
Word = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
File = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9._][A-Za-z0-9._/-]*$")]


class Check(BaseModel):
    """A question to a running service: a program inside one of its containers, which changes nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    service: Service = Field(description="The service in whose container the program runs.")
    exec: list[Word] = Field(min_length=1, max_length=100, description="Program and arguments; no shell.")
    equals: str | None = Field(
        default=None,
        max_length=1000,
        description="What it must print, without white space around it; if absent, exit code 0 is enough.",
    )
    timeout: Duration = Field(default=5.0, gt=0, le=60, description="How long one answer may take.")


class Stage(BaseModel):
    """Services that are started or stopped together, and what must hold before the next stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name = Field(description="The stage's name, for rules that do only some of them.")
    services: list[Service] = Field(min_length=1, max_length=100, description="The services.")
    wait: list[Name] = Field(
        default=[], max_length=20, description="Checks that must all hold at one and the same look."
    )
    within: Duration = Field(default=60.0, gt=0, le=3600, description="How long that may take.")


class ComposeTarget(Target):
    """One Compose project on the Docker Engine of this machine, found by the labels that Compose writes.

    What acts on the whole project needs the entry `*` in `permit.services`.
    """

    lists: ClassVar[tuple[str, ...]] = ("services", "variables")

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="The project's name (`docker compose ls`).")
    socket: str = Field(
        default="/var/run/docker.sock", pattern=r"^/[^\x00]*$", description="The Engine's socket, an absolute path."
    )
    directory: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]*$",
        description="The project's folder; needed to recreate, scale, set variables, and start what was removed.",
    )
    files: list[File] = Field(
        default=["docker-compose.yml"], min_length=1, max_length=20, description="Compose files in it, in order."
    )
    env_files: list[File] = Field(default=[".env"], max_length=20, description="Files in it that hold variables.")
    compose: list[Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]+$")]] = Field(
        default=["docker", "compose"],
        min_length=1,
        max_length=5,
        description="How Compose is called: `[docker, compose]`, or `[docker-compose]` for version 1.",
    )
    docker_config: str | None = Field(
        default=None,
        pattern=r"^/[^\x00]*$",
        description="Folder with Docker's configuration, for images of registries that ask who you are.",
    )
    timeout: Duration = Field(
        default=30.0, gt=0, le=600, description="How long one answer of the Engine may take, besides a stop's grace."
    )
    compose_timeout: Duration = Field(
        default=300.0, gt=0, le=3600, description="How long one call of Compose may take; it may have to pull images."
    )
    checks: dict[Name, Check] = Field(default_factory=dict, description="Questions that stages wait for.")
    startup: list[Stage] = Field(default=[], max_length=50, description="The order in which the project starts.")
    shutdown: list[Stage] = Field(
        default=[],
        max_length=50,
        description="The order in which it stops; if absent, `startup` backwards and without waiting.",
    )

    _engine: Engine | None = PrivateAttr(default=None)
    _opening: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)

    @field_validator("files", "env_files")
    @classmethod
    def _inside(cls, files: list[str]) -> list[str]:
        for file in files:
            if ".." in file.split("/"):
                raise ValueError(f'"{file}" must lie inside the project\'s folder')
        return files

    @model_validator(mode="after")
    def _stages_fit(self) -> ComposeTarget:
        for kind in ("startup", "shutdown"):
            stages: list[Stage] = getattr(self, kind)
            names = [stage.name for stage in stages]
            services = [service for stage in stages for service in stage.services]
            for what, found in (("stage", names), ("service", services)):
                if twice := next((each for each in found if found.count(each) > 1), None):
                    raise ValueError(f'{kind}: the {what} "{twice}" stands there twice')
            for stage in stages:
                if unknown := set(stage.wait) - set(self.checks):
                    raise ValueError(f'{kind}: {stage.name} waits for "{min(unknown)}", which is not among the checks')
        return self

    def shutdown_stages(self) -> list[Stage]:
        """The order in which it stops."""
        if self.shutdown:
            return self.shutdown
        return [stage.model_copy(update={"wait": []}) for stage in reversed(self.startup)]

    def refusal(self, uses: str, needs: Mapping[str, str]) -> str | None:
        """As for every target; where an action needs several services, each of them must be permitted."""
        for service in needs.get("services", "").split(","):
            wanted = {**needs, "services": service} if "services" in needs else needs
            if refusal := super().refusal(uses, wanted):
                return refusal
        return None

    async def engine(self) -> Engine:
        """The connection, made on first use."""
        async with self._opening:
            if self._engine is None:
                # In a thread: importing the client takes a while.
                kind = await asyncio.to_thread(_import_engine)
                self._engine = kind(self.socket, self.project, self.timeout)
            return self._engine

    async def close(self) -> None:
        """Release the connections."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()


def _import_engine() -> type[Engine]:
    from remediator.integrations.compose._engine import Engine

    return Engine
