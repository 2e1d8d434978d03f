"""What every target that speaks HTTP has in common: address, bearer token, time-out, limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator

from remediator.clock import Duration
from remediator.errors import PermanentError
from remediator.integrations._address import is_forbidden
from remediator.integrations._client import Answer, Client
from remediator.integrations._secret import read_secret, redact
from remediator.integrations._size import Size
from remediator.target import Target


def _check_host(host: str) -> None:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        # 2130706433, 127.1 and the like mean an address to some resolvers and a name to others.
        if host.replace(".", "").isdigit():
            raise ValueError(f'"{host}" is not an IPv4 address; write all four numbers') from None
    if is_forbidden(host):
        raise ValueError(f"{host} is a link-local or metadata address, which is always refused")


class WebTarget(Target):
    """A server at one base URL. Redirects, cookies and proxies of the environment are not used."""

    base_url: str = Field(
        max_length=2000,
        description="Where the server is: http:// or https://, host, port and an optional path, nothing else.",
    )
    bearer_token_file: str | None = Field(
        default=None, description="File with the bearer token; read for every request, so it may be rotated."
    )
    timeout: Duration = Field(default=10.0, gt=0, le=600, description="How long one request may take, answer included.")
    max_response: Size = Field(
        default=1024 * 1024, gt=0, le=64 * 1024 * 1024, description="How much of an answer is read."
    )
    ca_file: str | None = Field(
        default=None, description="Certificates to trust instead of the system's, in one PEM file."
    )

    _client: Client | None = PrivateAttr(default=None)

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, text: str) -> str:
        if not text.isascii() or not text.isprintable() or any(c in text for c in ' "\\<>^`{|}'):
            raise ValueError("base_url must be printable ASCII without spaces; percent-encode the rest")
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"base_url is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("base_url must look like https://host:port or https://host/prefix")
        if "@" in parts.netloc:
            raise ValueError("base_url must hold no user or password; use bearer_token_file")
        if "?" in text or "#" in text or any(p in (".", "..") for p in parts.path.split("/")):
            raise ValueError("base_url must hold no query, fragment or dot segments")
        _check_host(host)
        return text.rstrip("/")

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        check: Callable[[], None] | None = None,
    ) -> Answer:
        """Send one request to ``path`` (percent-encoded, with its query) below ``base_url``.

        The bearer token never comes back in the answer. Raises as ``Client.send`` does.
        """
        secrets = []
        sent = dict(headers)
        if self.bearer_token_file is not None:
            token = read_secret(self.bearer_token_file, "bearer_token_file")
            if not token.isascii() or not token.isprintable():
                raise PermanentError("the bearer token must be one line of printable ASCII", reason="secret")
            secrets.append(token)
            sent["Authorization"] = f"Bearer {token}"
        if self._client is None:
            self._client = Client(timeout=self.timeout, max_response=self.max_response, ca_file=self.ca_file)
        answer = await self._client.send(method, self.base_url + path, headers=sent, body=body, check=check)
        return replace(answer, body=redact(answer.body, secrets))

    async def close(self) -> None:
        """Release the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
