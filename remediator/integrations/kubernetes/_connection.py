"""A connection to one API server through the official asyncio client: credentials, and one call at a time.

This module imports the client and is therefore itself imported only when a target is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiohttp import ClientError
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config
from yaml import YAMLError

from remediator.errors import PermanentError
from remediator.integrations._client import CheckedRequest, departing
from remediator.integrations.kubernetes._failure import Request, api_failure, transport_failure

T = TypeVar("T")
Check = Callable[[], None]
_REFRESH = 60.0


class Refused(Exception):
    """The API server answered with something that is not a success."""

    def __init__(self, status: int, body: bytes, retry_after: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class Connection:
    """A connection to one API server."""

    def __init__(self, *, kubeconfig: str | None, context: str | None, in_cluster: bool, seconds: float) -> None:
        self._path = os.path.expanduser(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION)
        self._context = context
        self._in_cluster = in_cluster
        self.seconds = seconds
        self._configuration: Configuration | None = None
        self._loader: Any = None
        self._client: ApiClient | None = None
        self._read_at = 0.0
        self._stamp: tuple[float, ...] = ()

    async def refresh(self) -> None:
        """Read the credentials if this is the first use, a minute has passed, or a kubeconfig was written.

        Raises PermanentError; the message never quotes the kubeconfig, which may hold a token.
        """
        now = asyncio.get_running_loop().time()
        stamp = self._stamps()
        if self._client is not None and stamp == self._stamp and now - self._read_at < _REFRESH:
            return
        configuration = self._configuration or Configuration()
        try:
            await self._load(configuration, anew=stamp != self._stamp)
        except ConfigException as error:
            raise PermanentError(f"the cluster's credentials cannot be used: {error}", reason="kubeconfig") from None
        except (OSError, YAMLError, ValueError, TypeError, KeyError) as error:
            raise PermanentError(
                f"the kubeconfig {self._path} cannot be read ({type(error).__name__})", reason="kubeconfig"
            ) from None
        if self._client is None:
            # trust_env would let a .netrc or proxy variable of the host decide where credentials go.
            configuration.client_session_kwargs = {"trust_env": False, "request_class": CheckedRequest}
            self._client = ApiClient(configuration=configuration)
        self._configuration, self._stamp, self._read_at = configuration, stamp, now

    def _stamps(self) -> tuple[float, ...]:
        if self._in_cluster:
            return (0.0,)
        stamps = []
        for path in self._path.split(os.pathsep):
            try:
                stamps.append(os.stat(path).st_mtime)
            except OSError:
                stamps.append(-1.0)
        return tuple(stamps)

    async def _load(self, configuration: Configuration, *, anew: bool) -> None:
        if self._in_cluster:
            if anew:  # The client reads the service account's token again by itself.
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the client leaves it untyped
        elif anew or self._loader is None:
            self._loader = await load_kube_config(  # type: ignore[no-untyped-call]  # the client leaves it untyped
                config_file=self._path,
                context=self._context,
                client_configuration=configuration,
                persist_config=False,
            )
        else:  # Reads token files again, and asks credential plugins only when their token has expired.
            await self._loader.load_and_set(configuration)

    async def call(
        self,
        request: Request,
        method: str,
        path: str,
        read: Callable[[bytes], T],
        *,
        body: Any = None,
        content_type: str = "application/json",
        check: Check | None = None,
    ) -> T:
        """Send one request; what ``read`` makes of the answer's body. ValueError of ``read``: it cannot be used.

        Raises TemporaryError, PermanentError, Unanswered, and what ``check`` raises right before the first byte.
        """

        async def send() -> T:
            client = self._opened()
            headers = {"Accept": "application/json", "Content-Type": content_type}
            method_, url, headers_, body_, _ = await client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = await client.call_api(method_, url, headers_, body_, _request_timeout=self.seconds)
            data: bytes = await answer.read()  # type: ignore[no-untyped-call]  # the client leaves it untyped
            if not 200 <= answer.status <= 299:
                raise Refused(answer.status, data, answer.headers.get("Retry-After", ""))
            return read(data)

        return await self.guarded(request, send, check)

    async def guarded(self, request: Request, send: Callable[[], Awaitable[T]], check: Check | None) -> T:
        """Send one request and turn every way it can end into a result or the right word."""
        with departing(check) as departure:
            try:
                return await send()
            except Refused as error:
                raise api_failure(error.status, error.body, error.retry_after, request) from None
            except (ClientError, OSError, ValueError) as error:
                raise transport_failure(error, request, departure) from error

    async def credentials(self, path: str) -> tuple[Any, str, Mapping[str, str], str | None]:
        """What a WebSocket needs: the session, its address, the headers that say who asks, and a proxy."""
        client = self._opened()
        _, url, headers, _, _ = await client.param_serialize(
            "GET", path, header_params={}, auth_settings=["BearerToken"]
        )
        rest = client.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        return rest.pool_manager, url, headers, rest.proxy

    def _opened(self) -> ApiClient:
        if self._client is None:
            raise RuntimeError("refresh() comes before the first call")
        return self._client

    async def close(self) -> None:
        """Release the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
