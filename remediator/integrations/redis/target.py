"""The settings of a target of kind ``redis``, and the way in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from remediator.clock import Duration
from remediator.integrations._secret import read_secret
from remediator.integrations.redis._names import Address
from remediator.target import Target

if TYPE_CHECKING:
    from remediator.integrations.redis._cluster import Node
    from remediator.integrations.redis._server import Server

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class Breaker(BaseModel):
    """Circuit breakers that a service keeps in Redis: one hash for each thing that may break."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(max_length=400, description="The key of the hash; `{id}` stands for what broke.")
    state: str = Field(default="state", min_length=1, description="The field that holds the state.")
    open: str = Field(default="open", min_length=1, description="Its value while the breaker is open.")
    closed: str = Field(default="closed", min_length=1, description="Its value when it is closed.")
    failures: str | None = Field(default=None, min_length=1, description="The field that counts failures; set to 0.")
    opened_at: str = Field(
        default="opened_at", min_length=1, description="The field that holds when it opened: Unix seconds, or ms."
    )
    wait: Duration = Field(
        default=60.0, gt=0, description="How long it must have been open: by then it could half-open by itself."
    )

    @field_validator("key")
    @classmethod
    def _key(cls, key: str) -> str:
        if key.count("{id}") != 1 or not key.isprintable():
            raise ValueError("key is printable text and holds {id} once, such as breaker:{id}")
        return key


class RedisTarget(Target):
    """One server, the master that Sentinels know, or a cluster. Every look and action has a connection of its own."""

    lists: ClassVar[tuple[str, ...]] = ("keys", "writable_keys", "nodes", "breakers")

    addresses: list[Address] = Field(
        min_length=1,
        max_length=50,
        description="`host:port` of the server, of the Sentinels, or of some nodes of the cluster; asked in turn.",
    )
    mode: Literal["single", "sentinel", "cluster"] = Field(
        default="single", description="What stands at the addresses: `single`, `sentinel` or `cluster`."
    )
    master: str | None = Field(default=None, min_length=1, description="With Sentinels: the name of the master.")
    username: str | None = Field(default=None, min_length=1, description="The ACL user; the default user if absent.")
    password_file: str | None = Field(
        default=None, description="File with the password; read for every connection, so it may be rotated."
    )
    sentinel_password_file: str | None = Field(default=None, description="File with the password of the Sentinels.")
    database: int = Field(default=0, ge=0, le=10_000, description="The number of the database; a cluster has only 0.")
    tls: bool = Field(default=False, description="Speak TLS, and verify the certificate and its name.")
    ca_file: str | None = Field(default=None, description="Certificates to trust instead of the system's.")
    timeout: Duration = Field(default=5.0, gt=0, le=120, description="How long one look or action may take in all.")
    breakers: dict[Name, Breaker] = Field(
        default_factory=dict, description="Circuit breakers kept as hashes, by the name that rules use."
    )

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, addresses: list[str]) -> list[str]:
        if len(set(addresses)) != len(addresses):
            raise ValueError("each address stands here once")
        return addresses

    @model_validator(mode="after")
    def _consistent(self) -> RedisTarget:
        if (self.mode == "sentinel") != (self.master is not None):
            raise ValueError("write master with mode: sentinel, and only there")
        if self.mode == "single" and len(self.addresses) > 1:
            raise ValueError("a single server has one address; write mode: sentinel or mode: cluster for several")
        if self.mode == "cluster" and self.database:
            raise ValueError("a cluster has only database 0")
        if self.mode != "sentinel" and self.sentinel_password_file is not None:
            raise ValueError("sentinel_password_file goes with mode: sentinel")
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file goes with tls: true")
        return self

    def password(self) -> str | None:
        """The password as it is now. Raises TemporaryError, PermanentError."""
        return None if self.password_file is None else read_secret(self.password_file, "password_file")

    def sentinel_password(self) -> str | None:
        """The password of the Sentinels as it is now. Raises TemporaryError, PermanentError."""
        path = self.sentinel_password_file
        return None if path is None else read_secret(path, "sentinel_password_file")

    async def nodes(self) -> list[Node]:
        """The nodes of the cluster. Raises TemporaryError, PermanentError."""
        module = await asyncio.to_thread(_import_server)
        found: list[Node] = await module.nodes(self)
        return found

    @asynccontextmanager
    async def server(
        self, *, key: str | None = None, node: str | None = None, known: Sequence[Node] | None = None
    ) -> AsyncIterator[Server]:
        """A connection to the server that takes writes, holds ``key`` or is ``node``, for at most ``timeout``.

        ``known`` are the nodes of the cluster where they were just asked for. Raises TemporaryError and PermanentError.
        """
        # In a thread: the import would stop the whole service for a moment.
        module = await asyncio.to_thread(_import_server)
        async with module.open_server(self, key=key, node=node, known=known) as server:
            yield server


def _import_server() -> ModuleType:
    from remediator.integrations.redis import _server

    return _server
