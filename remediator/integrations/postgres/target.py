"""The settings of a target of kind ``postgres``, and the way in."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from types import ModuleType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from remediator.clock import Duration
from remediator.integrations._secret import read_secret
from remediator.integrations._size import Size
from remediator.integrations.postgres._names import Column, Name, Table, User
from remediator.integrations.postgres._statement import Statement
from remediator.target import Target

Host = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._/-]{1,200}|[A-Za-z0-9.:_-]{1,253})$")]


class Wait(BaseModel):
    """How old something must be before a row is touched."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    column: Column = Field(description="A column with a time, such as last_failure_at.")
    age: Duration = Field(gt=0, description="How long ago that must be, by the server's clock.")


class Row(BaseModel):
    """Rows of one table that may be changed, one at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    table: Table = Field(description="The table.")
    key: Column = Field(description="The column that names the row; at most one row may have a value.")
    columns: dict[Column, list[str]] = Field(
        min_length=1, max_length=50, description="What may be changed: column → the texts it may hold, [] for any."
    )
    wait: Wait | None = Field(default=None, description="Touch a row only when `column` is at least `age` ago.")

    @model_validator(mode="after")
    def _not_the_key(self) -> Row:
        if self.key in self.columns:
            raise ValueError("the key of a row is not changed")
        return self


class Dumps(BaseModel):
    """Where dumps of this database go."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    directory: str = Field(description="Absolute path of the directory; it must exist.")
    min_free: Size = Field(
        default=1024**3, ge=0, description="What must stay free besides as much as the database takes."
    )
    timeout: Duration = Field(default=3600.0, gt=0, le=86400, description="How long one dump or check may take.")

    @field_validator("directory")
    @classmethod
    def _directory(cls, path: str) -> str:
        if not path.startswith("/") or "\x00" in path or ".." in PurePosixPath(path).parts:
            raise ValueError("directory must be an absolute path without ..")
        return path


class Pgbouncer(BaseModel):
    """The admin console of the PgBouncer in front of the server. It is only ever asked SHOW."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: Host = Field(description="Where PgBouncer listens.")
    port: int = Field(default=6432, ge=1, le=65535, description="Its port.")
    user: User = Field(description="A user of its stats_users.")
    password_file: str | None = Field(default=None, description="File with the password; read for every look.")


class PostgresTarget(Target):
    """One database of one server. Every look and action has a connection of its own."""

    lists: ClassVar[tuple[str, ...]] = ("applications", "statements", "rows", "dumps")

    host: Host = Field(description="Name, address or socket directory of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="Its port.")
    database: User = Field(description="The database.")
    user: User = Field(description="The role.")
    password_file: str | None = Field(
        default=None, description="File with the password; read for every connection, so it may be rotated."
    )
    tls: bool = Field(default=False, description="Speak TLS, and verify the certificate and its name.")
    ca_file: str | None = Field(default=None, description="Certificates to trust instead of the system's.")
    timeout: Duration = Field(
        default=10.0, gt=0, le=600, description="How long one look or action may take in all, connecting included."
    )
    statements: dict[Name, Statement] = Field(
        default_factory=dict, description="Statements by the name that rules use."
    )
    rows: dict[Name, Row] = Field(default_factory=dict, description="Rows that may be changed, by kind.")
    dumps: dict[Name, Dumps] = Field(default_factory=dict, description="Where dumps go, by name.")
    pgbouncer: Pgbouncer | None = Field(default=None, description="The PgBouncer in front of the server.")

    @model_validator(mode="after")
    def _consistent(self) -> PostgresTarget:
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file goes with tls: true")
        for name, statement in self.statements.items():
            if statement.undo is None:
                continue
            undo = self.statements.get(statement.undo)
            if undo is None or not undo.changes:
                raise ValueError(f'statements.{name}.undo: no statement "{statement.undo}" with changes: true')
            if not {each.name for each in undo.parameters} <= {each.name for each in statement.parameters}:
                raise ValueError(f'statements.{name}.undo: "{statement.undo}" has parameters that "{name}" has not')
        return self

    def password(self) -> str | None:
        """The password as it is now. Raises TemporaryError, PermanentError."""
        return None if self.password_file is None else read_secret(self.password_file, "password_file")

    async def client(self) -> Any:
        """The module that talks to the server; importing it takes a moment and is done in a thread."""
        return await asyncio.to_thread(_import)


def _import() -> ModuleType:
    from remediator.integrations.postgres import _session

    return _session
