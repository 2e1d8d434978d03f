"""The settings of a target of kind ``rpc``: the endpoints of one cluster that a service may use."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from remediator.clock import Duration
from remediator.integrations._address import is_forbidden
from remediator.integrations._client import Client
from remediator.redact import register_secret
from remediator.target import Target

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class PoolEndpoint(BaseModel):
    """One endpoint of a pool."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(max_length=63, description="How rules and people call it.")
    url: str = Field(max_length=2000, description="Where Remediator asks it; may hold a key, and is shown nowhere.")
    value: str = Field(
        default="", max_length=2000, description="What the service must be told to use it; its name if absent."
    )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if _NAME.fullmatch(name) is None:
            raise ValueError("an endpoint is named by letters a-z, digits and dashes")
        return name

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
            raise ValueError("an RPC address looks like https://host or http://host:port/path")
        if " " in url or is_forbidden(parts.hostname):
            raise ValueError(f"{parts.hostname} is a link-local or metadata address, which is always refused")
        return url


class RpcTarget(Target):
    """A pool of Solana RPC endpoints of one cluster, in the order of preference.

    What a service is told (`value`) is shown to approvers and kept in the audit: let it hold no key.
    """

    lists: ClassVar[tuple[str, ...]] = ("endpoints",)

    genesis: str = Field(min_length=32, max_length=44, description="The genesis hash that every endpoint must have.")
    endpoints: list[PoolEndpoint] = Field(min_length=2, max_length=20, description="The pool, the preferred one first.")
    request_timeout: Duration = Field(default=5.0, gt=0, le=60, description="How long one question may take.")

    _client: Client | None = PrivateAttr(default=None)

    @field_validator("endpoints")
    @classmethod
    def _endpoints(cls, endpoints: list[PoolEndpoint]) -> list[PoolEndpoint]:
        for told in ([each.name for each in endpoints], [each.url for each in endpoints]):
            if len(set(told)) != len(told):
                raise ValueError("two endpoints of the pool have the same name or the same url")
        return endpoints

    @property
    def client(self) -> Client:
        """The connection, made on first use."""
        if self._client is None:
            for each in self.endpoints:
                parts = urlsplit(each.url)
                register_secret(f"{parts.path}?{parts.query}" if parts.query else parts.path)
                register_secret(parts.query)
            self._client = Client(timeout=self.request_timeout, max_response=64 * 1024, ca_file=None)
        return self._client

    async def close(self) -> None:
        """Release the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
