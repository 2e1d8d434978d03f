"""The settings of a target of kind ``command``: which programs there are and in what surroundings they run."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from remediator.errors import PermanentError
from remediator.integrations import _host, _secret
from remediator.integrations._process import Ended
from remediator.integrations._size import Size
from remediator.integrations._ssh import SSH
from remediator.integrations.command._program import NAME, Program
from remediator.redact import register_secret
from remediator.target import Target

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_FROM_ENVIRONMENT = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME = re.compile(r"(?i)token|secret|passw|passphrase|credential|private|_key$|^key$|_dsn$|_url$|apikey")
_CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
Variable = Annotated[str, StringConstraints(pattern=_VARIABLE)]


class CommandTarget(Target):
    """Named programs on this machine, or on another one. Rules choose among them; they never write a command line."""

    lists: ClassVar[tuple[str, ...]] = ("commands",)

    commands: dict[Annotated[str, StringConstraints(pattern=NAME)], Program] = Field(
        min_length=1, description="The commands, by the name that rules use."
    )
    directory: str = Field(description="Absolute path of the directory they run in; it must exist.")
    ssh: SSH | None = Field(
        default=None, description="The machine they run on: `host`, `port`, `user`, `key_file`, `known_hosts_file`."
    )
    environment: dict[Variable, str] = Field(
        default_factory=dict,
        description="Environment on top of PATH and LANG; `${env:NAME}` as a whole value takes it from "
        "Remediator's own environment, and such a value is treated as a secret.",
    )
    environment_files: dict[Variable, str] = Field(
        default_factory=dict,
        description="Environment variables whose values are secrets: name to file, read for every run.",
    )
    max_output: Size = Field(
        default=64 * 1024,
        ge=1024,
        le=16 * 1024 * 1024,
        description="How much of each of standard output and standard error is kept.",
    )

    @field_validator("directory")
    @classmethod
    def _directory(cls, path: str) -> str:
        if not path.startswith("/") or "\x00" in path:
            raise ValueError("directory must be an absolute path")
        return path

    @field_validator("environment")
    @classmethod
    def _environment(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if "\x00" in value:
                raise ValueError(f"{name} holds a NUL character")
            if "${" in value and _FROM_ENVIRONMENT.fullmatch(value) is None:
                raise ValueError(f'{name}: write "${{env:NAME}}" as the whole value, or a plain value')
        return environment

    @field_validator("environment_files")
    @classmethod
    def _environment_files(cls, files: dict[str, str]) -> dict[str, str]:
        for name, path in files.items():
            if not path.startswith("/") or "\x00" in path:
                raise ValueError(f"environment_files.{name} must be an absolute path")
        return files

    @model_validator(mode="after")
    def _others_fit(self) -> CommandTarget:
        for name, program in self.commands.items():
            for role in ("undo", "precondition", "done_if"):
                self._check_other(name, program, role)
        if both := set(self.environment) & set(self.environment_files):
            raise ValueError(f"{min(both)} is in environment and in environment_files")
        return self

    def _check_other(self, name: str, program: Program, role: str) -> None:
        wanted = getattr(program, role)
        if wanted is None:
            return
        other = self.commands.get(wanted)
        if other is None:
            raise ValueError(f'commands.{name}.{role}: no command is named "{wanted}"')
        if not set(other.parameters) <= set(program.parameters):
            raise ValueError(f'commands.{name}.{role}: "{wanted}" has parameters that "{name}" has not')

    def surroundings(self) -> tuple[dict[str, str], list[str]]:
        """The environment of a run, and those of its values that must not be shown.

        Raises PermanentError or TemporaryError when a secret cannot be read.
        """
        environment, secrets = dict(_CLEAN), []
        for name, value in self.environment.items():
            if match := _FROM_ENVIRONMENT.fullmatch(value):
                if match[1] not in os.environ:
                    raise PermanentError(f"the environment variable {match[1]} is not set", reason="secret")
                environment[name] = os.environ[match[1]]
            else:
                environment[name] = value
            if match or _SECRET_NAME.search(name):
                register_secret(environment[name])
                secrets.append(environment[name])
        for name, path in self.environment_files.items():
            environment[name] = _secret.read_secret(path, f"environment_files.{name}")
            if "\x00" in environment[name]:
                raise PermanentError(f"environment_files.{name} holds a NUL character", reason="secret")
            secrets.append(environment[name])
        return environment, [secret for secret in secrets if len(secret) >= 4]

    async def execute(
        self, argv: list[str], seconds: float, more: Mapping[str, str], check: Callable[[], None] = lambda: None
    ) -> Ended:
        """Run ``argv`` where the target says, in its surroundings and with the variables of ``more``.

        Raises PermanentError or TemporaryError if it was not started, Interrupted if what it did is unknown.
        """
        environment, secrets = await asyncio.to_thread(self.surroundings)
        return await _host.execute(
            self.ssh,
            argv,
            directory=self.directory,
            environment={**environment, **more},
            seconds=seconds,
            limit=self.max_output,
            secrets=secrets,
            check=check,
        )
