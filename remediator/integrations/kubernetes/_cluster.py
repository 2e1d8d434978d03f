"""The few calls to the Kubernetes API that actions and probes make, through the official asyncio client.

This module imports the client and is therefore itself imported only when a target is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import ClientError
from kubernetes.aio.client import (
    ApiClient,
    AppsV1Api,
    AutoscalingV2Api,
    Configuration,
    V1Deployment,
    V1Scale,
    V1StatefulSet,
    V2HorizontalPodAutoscaler,
    V2HorizontalPodAutoscalerList,
)
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config
from pydantic import ValidationError
from yaml import YAMLError

from remediator.errors import PermanentError
from remediator.integrations._client import CheckedRequest, departing
from remediator.integrations.kubernetes._failure import Request, api_failure, transport_failure
from remediator.integrations.kubernetes._thing import Thing

T = TypeVar("T")
_PAGE = 250
_PAGES = 40
_REFRESH = 60.0
MANAGER = "remediator"
"""The field manager that managedFields of changed objects show."""


class Cluster:
    """A connection to one API server."""

    def __init__(self, *, kubeconfig: str | None, context: str | None, in_cluster: bool, seconds: float) -> None:
        self._path = os.path.expanduser(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION)
        self._context = context
        self._in_cluster = in_cluster
        self._seconds = seconds
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

    async def _call(
        self, request: Request, send: Callable[[], Awaitable[T]], check: Callable[[], None] | None = None
    ) -> T:
        """Send one request and turn every way it can end into a result or the right word."""
        with departing(check) as departure:
            try:
                return await send()
            except ApiException as error:
                raise api_failure(error, request) from error
            except (ClientError, OSError, ValidationError, ValueError) as error:
                raise transport_failure(error, request, departure) from error

    def _apps(self) -> AppsV1Api:
        return AppsV1Api(self._client)

    async def read(self, thing: Thing) -> V1Deployment | V1StatefulSet:
        """The object. Raises TemporaryError, PermanentError."""
        request = Request(verb="get", resource=thing.resource, namespace=thing.namespace, name=thing.name)
        api = self._apps()
        where: dict[str, Any] = {
            "name": thing.name,
            "namespace": thing.namespace,
            "_request_timeout": self._seconds,
        }

        async def send() -> V1Deployment | V1StatefulSet:
            if thing.kind == "deployment":
                return await api.read_namespaced_deployment(**where)
            return await api.read_namespaced_stateful_set(**where)

        return await self._call(request, send)

    async def read_scale(self, thing: Thing) -> V1Scale:
        """The scale subresource. Raises TemporaryError, PermanentError."""
        request = Request(verb="get", resource=f"{thing.resource}/scale", namespace=thing.namespace, name=thing.name)
        api = self._apps()
        where: dict[str, Any] = {
            "name": thing.name,
            "namespace": thing.namespace,
            "_request_timeout": self._seconds,
        }

        async def send() -> V1Scale:
            if thing.kind == "deployment":
                return await api.read_namespaced_deployment_scale(**where)
            return await api.read_namespaced_stateful_set_scale(**where)

        return await self._call(request, send)

    async def write_scale(self, thing: Thing, replicas: int, version: str, check: Callable[[], None]) -> V1Scale:
        """Set the replicas if the object still has the resourceVersion ``version``.

        A merge patch and not a replacement: the HTTP client repeats a PUT by itself when a kept connection
        turns out to be closed, and the answer to the second one would hide what the first one did.
        Raises TemporaryError (reason conflict) if it has another version, PermanentError, Unanswered.
        """
        request = Request(verb="patch", resource=f"{thing.resource}/scale", namespace=thing.namespace, name=thing.name)
        api = self._apps()
        patch: dict[str, Any] = {
            "name": thing.name,
            "namespace": thing.namespace,
            "body": {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}},
            "field_manager": MANAGER,
            "_content_type": "application/merge-patch+json",
            "_request_timeout": self._seconds,
        }

        async def send() -> V1Scale:
            if thing.kind == "deployment":
                return await api.patch_namespaced_deployment_scale(**patch)
            return await api.patch_namespaced_stateful_set_scale(**patch)

        return await self._call(request, send, check)

    async def autoscalers(self, namespace: str) -> list[V2HorizontalPodAutoscaler]:
        """All horizontal pod autoscalers of a namespace. Raises TemporaryError, PermanentError."""
        request = Request(verb="list", resource="horizontalpodautoscalers", namespace=namespace)
        api = AutoscalingV2Api(self._client)
        found: list[V2HorizontalPodAutoscaler] = []
        where: dict[str, Any] = {
            "namespace": namespace,
            "limit": _PAGE,
            "_request_timeout": self._seconds,
        }

        async def send() -> V2HorizontalPodAutoscalerList:
            return await api.list_namespaced_horizontal_pod_autoscaler(**where)

        for _ in range(_PAGES):
            page = await self._call(request, send)
            found += page.items
            where["_continue"] = page.metadata.var_continue if page.metadata else None
            if not where["_continue"]:
                return found
        raise PermanentError(f"namespace {namespace} has too many autoscalers to look through", reason="too_many")

    async def close(self) -> None:
        """Release the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
