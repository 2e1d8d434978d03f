"""``compose.set_env``: set one variable in an environment file, and recreate the services that use it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from remediator.action import Action, ActionContext, Change, Effect, Outcome
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.compose import _cli, _envfile
from remediator.integrations.compose._container import Unfinished, of_service
from remediator.integrations.compose._names import Service
from remediator.integrations.compose.target import ComposeTarget

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Value = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/@%+,=?&~-]{0,1000}$")]
"""What needs no quotes in any dialect of environment files: no space, quote, dollar sign or number sign."""


class SetEnv(Action[ComposeTarget]):
    """Sets a variable in an environment file of the project; the previous value is part of the change.

    Writing the file alone changes no container: the services named by `recreate` are recreated right after it, and
    again when the change is taken back. Secrets are never set this way.
    """

    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    literal: ClassVar[frozenset[str]] = frozenset({"file", "variable", "recreate"})

    variable: Variable = Field(description="The variable.")
    value: Value | None = Field(description="Its value: text that needs no quotes; null removes the variable.")
    file: str = Field(default=".env", max_length=500, description="One of the target's `env_files`.")
    recreate: list[Service] = Field(
        default=[], max_length=20, description="Services to recreate, so that their containers have it."
    )
    only_from: Value | None = Field(
        default=None, description="Act only if this is the value now; used to take a change back."
    )
    only_if_unset: bool = Field(
        default=False, description="Act only if the variable is not set now; used to take a change back."
    )

    @model_validator(mode="after")
    def _no_secret(self) -> SetEnv:
        if _envfile.is_secret(self.variable):
            raise ValueError(f"{self.variable} looks like a secret, and changes are shown to people")
        if self.only_if_unset and self.only_from is not None:
            raise ValueError("write only_from or only_if_unset, not both")
        return self

    def needs(self) -> Mapping[str, str]:
        """The variable, and every service that is recreated, must be permitted."""
        services = {"services": ",".join(self.recreate)} if self.recreate else {}
        return {"variables": self.variable, **services}

    def _path(self, target: ComposeTarget) -> str:
        if target.directory is None:
            raise PermanentError("the target has no directory, so that it has no environment files", reason="settings")
        if self.file not in target.env_files:
            raise PermanentError(f'"{self.file}" is not among the env_files of the target', reason="parameter")
        return os.path.join(target.directory, self.file)

    async def _outdated(self, target: ComposeTarget) -> list[str]:
        """The services whose containers were made with another configuration than the files say now."""
        if not self.recreate:
            return []
        found = await (await target.engine()).containers()
        mine = {service: of_service(found, service) for service in self.recreate}
        wanted = await _cli.config_hashes(target, self.recreate)
        return [name for name, containers in mine.items() if {each.hash for each in containers} != {wanted[name]}]

    def _refuse_others(self, current: str | None) -> None:
        """Raises PermanentError if the value is no longer the one that our change left."""
        if current == self.value:
            return
        if self.only_if_unset and current is not None:
            raise PermanentError(f"{self.variable} is {current} by now, and was to be unset", reason="changed")
        if self.only_from is not None and current != self.only_from:
            raise PermanentError(f"{self.variable} is {current} and not {self.only_from}", reason="changed")

    async def diff(self, target: ComposeTarget, context: ActionContext) -> Change:
        """The value now and wanted, and the services whose containers do not have it."""
        current = await asyncio.to_thread(_envfile.read, self._path(target), self.variable)
        self._refuse_others(current)
        # Asked in any case: a service that is not there must be found before the file is written.
        outdated = await self._outdated(target)
        pending = outdated if current == self.value else list(self.recreate)
        what = "unset" if self.value is None else f"set to {self.value}"
        return Change(
            summary=f"{self.variable} in {self.file}: {what}; recreate {', '.join(self.recreate) or 'nothing'}"[:500],
            before={"file": self.file, "value": current, "outdated": pending},
            after={"file": self.file, "value": self.value, "outdated": []},
        )

    async def apply(self, target: ComposeTarget, change: Change, context: ActionContext) -> Outcome:
        """Write the file if it still holds the shown value, then recreate; done again, it goes on where it was."""
        path = self._path(target)
        current = await asyncio.to_thread(_envfile.read, path, self.variable)
        if current not in (change.before["value"], self.value):
            raise TemporaryError(f"{self.variable} has changed since it was looked at", reason="changed")
        context.check_deadline()
        if current != self.value:
            await asyncio.to_thread(_envfile.write, path, self.variable, self.value)
        try:
            if outdated := await self._outdated(target):
                await _cli.up(target, outdated, check=lambda: None)
        except (PermanentError, TemporaryError) as error:
            # The file is written: that the services were not recreated does not mean that nothing happened.
            raise Unfinished(f"{self.file} is written, but {error}") from error
        return Outcome(summary=f"{self.variable} is {change.after['value']}", data=dict(change.after))

    async def verify(self, target: ComposeTarget, change: Change, context: ActionContext) -> None:
        """The containers of the recreated services have the wanted configuration and are up."""
        if outdated := await self._outdated(target):
            raise TemporaryError(f"{', '.join(outdated)} does not have it yet", reason="outdated")
        found = await (await target.engine()).containers() if self.recreate else []
        for each in found:
            if each.service in self.recreate and not each.well:
                raise TemporaryError(f"{each.service} is {each.state} ({each.health})", reason="not_running")

    def inverse(self, change: Change) -> SetEnv:
        """The value of before, only if it is still the one of after; the same services are recreated."""
        after = change.after["value"]
        guard = {"only_if_unset": True} if after is None else {"only_from": after}
        return SetEnv.model_validate(
            {
                "variable": self.variable,
                "value": change.before["value"],
                "file": self.file,
                "recreate": list(self.recreate),
                **guard,
            }
        )
