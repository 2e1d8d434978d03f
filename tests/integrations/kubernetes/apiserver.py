"""A stand-in for the Kubernetes API server: exactly the calls Remediator makes, over real HTTP.

Behaviour follows the API conventions (https://github.com/kubernetes/community, api-conventions.md) and what a 1.36
server was seen to do: Status objects for every error, resourceVersion as an optimistic lock (409 on a stale one),
no new version for a write that changes nothing, ``dryRun=All`` that changes nothing, ``omitempty`` zeros, RBAC by
verb, resource, subresource and name, paged lists. Controllers act ``settle`` seconds after a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from aiohttp import web

from tests.integrations.kubernetes.standin.access import Grant, grants_of
from tests.integrations.kubernetes.standin.answers import Answers, Call, Refused
from tests.integrations.kubernetes.standin.controllers import REVISION
from tests.integrations.kubernetes.standin.store import Store
from tests.integrations.kubernetes.standin.validation import tidy

__all__ = ["TOKEN", "ApiServer", "Call", "Fault", "Grant", "Refused", "api_server"]

TOKEN = "api-server-token"
CONTAINER: dict[str, Any] = {"name": "main", "image": "minting:1.2", "resources": {}}
"""The container of every workload."""
_KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` calls of ``verb`` on ``resource``.

    ``after`` carries the call out first: the change is made and only its answer is lost.
    """

    verb: str
    resource: str
    kind: Literal["hang", "reset", "garbage", "html"] | int
    times: int = 1
    after: bool = False


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response({**body, "reason": reason, "code": code}, status=code, headers=headers)


class ApiServer(Store):
    """The objects, who may do what, and what goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.grants: list[Grant] | None = None
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.token = TOKEN
        self.url = ""
        self.answers = Answers(self)

    # What a test arranges and looks at.

    def add(self, resource: str, name: str, replicas: int, namespace: str = "production", **spec: Any) -> None:
        """A settled object with ``replicas`` ready replicas; a deployment is at revision 7."""
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [dict(CONTAINER)]}}
        extra = {"serviceName": name} if resource == "statefulsets" else {}
        for key in [key for key in self.objects if key[1] == namespace and key[2].startswith(f"{name}-")]:
            del self.objects[key]
        self.insert(
            resource,
            {
                "apiVersion": "apps/v1",
                "kind": _KINDS[resource],
                "metadata": {"name": name, "namespace": namespace, "annotations": {REVISION: "7"}},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": template,
                    **extra,
                    **copy.deepcopy(spec),
                },
                "status": {},
            },
        )
        self.due[resource, namespace, name] = 0.0
        self.act()

    def put(self, resource: str, name: str, namespace: str = "production", **content: Any) -> dict[str, Any]:
        """Any other object."""
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **content.pop("metadata", {})}
        kinds = {"cronjobs": ("batch/v1", "CronJob"), "services": ("v1", "Service"), "nodes": ("v1", "Node")}
        version, kind = kinds.get(resource, ("v1", resource[:-1].title()))
        return self.insert(
            resource, {"apiVersion": version, "kind": kind, "metadata": metadata, **copy.deepcopy(content)}
        )

    def autoscale(
        self,
        kind: str,
        name: str,
        namespace: str = "production",
        limits: tuple[int, int] = (1, 10),
        called: str = "",
        **metadata: Any,
    ) -> str:
        """A HorizontalPodAutoscaler that targets the object; returns its name."""
        hpa = called or f"{name}-hpa"
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": name}
        self.put(
            "horizontalpodautoscalers",
            hpa,
            namespace,
            metadata=metadata,
            spec={"scaleTargetRef": reference, "minReplicas": limits[0], "maxReplicas": limits[1]},
            status={"currentReplicas": 1, "desiredReplicas": 1, "conditions": []},
        )
        return hpa

    def scaled_object(self, kind: str, name: str, namespace: str = "production", **spec: int) -> None:
        """A KEDA ScaledObject and the HorizontalPodAutoscaler that KEDA makes for it."""
        reference = {"kind": kind, "name": name}
        made = self.put("scaledobjects", name, namespace, spec={"scaleTargetRef": reference, **spec}, status={})
        made |= {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"}
        owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": name, "uid": made["metadata"]["uid"]}
        owners = [{**owner, "controller": True}]
        self.autoscale(kind, name, namespace, called=f"keda-hpa-{name}", ownerReferences=owners)

    def get(self, resource: str, name: str, namespace: str = "production") -> dict[str, Any]:
        """The object as it is once the controllers have done what is due."""
        self.act()
        return self.objects[resource, namespace, name]

    def change(self, resource: str, name: str, namespace: str = "production", **spec: Any) -> None:
        """Somebody else changes parts of the wish."""
        key = (resource, namespace, name)
        new = copy.deepcopy(self.objects[key])
        new["spec"] |= copy.deepcopy(spec)
        tidy(new)
        self.write(key, new)
        self.act()

    def roll(self, name: str, image: str, resource: str = "deployments", **env: str) -> None:
        """Somebody deploys another image, with these variables."""
        template = copy.deepcopy(self.objects[resource, "production", name]["spec"]["template"])
        (container,) = template["spec"]["containers"]
        container |= {"image": image, "env": [{"name": key, "value": value} for key, value in env.items()]}
        self.change(resource, name, template=template)

    def set_replicas(self, resource: str, name: str, replicas: int, namespace: str = "production") -> None:
        """Somebody else scales the object."""
        self.scale_to((resource, namespace, name), replicas)

    def replicas(self, resource: str, name: str, namespace: str = "production") -> int:
        """What the object wants now."""
        return int(self.get(resource, name, namespace)["spec"]["replicas"])

    def writes(self) -> list[Call]:
        """The calls that could have changed something."""
        harmless = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
        return [
            call
            for call in self.calls
            if call.verb not in ("get", "list") and "dryRun" not in call.query and call.resource not in harmless
        ]

    def use_roles(self, text: str) -> None:
        """From now on the identity may do what the Roles of these YAML documents allow, and nothing else."""
        documents: Iterable[Mapping[str, Any] | None] = yaml.safe_load_all(text)
        self.grants = grants_of(documents)

    def kubeconfig(self, directory: Path, **user: str) -> str:
        """A kubeconfig with the contexts ``prod`` (current) and ``stranger``; returns its path."""
        path = directory / "kubeconfig"
        contexts = [{"name": name, "context": {"cluster": "here", "user": name}} for name in ("prod", "stranger")]
        users = [
            {"name": "prod", "user": user or {"token": self.token}},
            {"name": "stranger", "user": {"token": "wrong"}},
        ]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "prod",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": users,
            "contexts": contexts,
        }
        path.write_text(yaml.safe_dump(config))
        return str(path)

    # HTTP.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call: who, may they, what goes wrong, and what they get."""
        try:
            if request.headers.get("Authorization", "").lower() != f"bearer {self.token}".lower():
                raise Refused(401, "Unauthorized", "Unauthorized")
            call = await self.answers.call_of(request)
            self.calls.append(call)
            self._authorise(call)
            fault = self._fault(call)
            self.act()
            if fault is None:
                return await self.answers.answer(call, request)
            if fault.after:
                await self.answers.answer(call, request)
            return await self._fail(fault, request)
        except Refused as error:
            return _status(error.code, error.reason, str(error))

    def _authorise(self, call: Call) -> None:
        if call.resource.startswith("selfsubject") or self.grants is None:
            return
        # Running a program over a WebSocket is a GET that makes something: API servers of our day ask for both.
        verbs = ("get", "create") if call.resource == "pods/exec" else (call.verb,)
        if all(
            any(g.allows(verb, call.resource, call.name, call.group, call.namespace) for g in self.grants)
            for verb in verbs
        ):
            return
        raise Refused(
            403,
            "Forbidden",
            f'{call.resource} "{call.name}" is forbidden: User "remediator" cannot {call.verb} resource '
            f'"{call.resource}" in API group "{call.group}" in the namespace "{call.namespace}"',
        )

    def _fault(self, call: Call) -> Fault | None:
        for fault in self.faults:
            if (fault.verb, fault.resource) == (call.verb, call.resource) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def _fail(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        if isinstance(fault.kind, int):
            return _status(fault.kind, "InternalError", "something went wrong")
        if fault.kind == "garbage":
            return web.json_response({"metadata": 7, "spec": {"replicas": "many"}})
        if fault.kind == "html":
            return web.Response(text="<html>", content_type="text/html")
        if fault.kind == "hang":
            await asyncio.sleep(30)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@contextlib.asynccontextmanager
async def api_server(context: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    """A running API server on a free loopback port, with TLS if there is a ``context``."""
    it = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", it.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    it.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield it
    finally:
        await runner.cleanup()
