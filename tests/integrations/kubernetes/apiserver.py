"""A stand-in for the Kubernetes API server: exactly the calls Remediator makes, over real HTTP.

Behaviour follows the API conventions (https://github.com/kubernetes/community, api-conventions.md) and what a 1.36
server was seen to do: Status objects for every error, resourceVersion as an optimistic lock (409 on a stale one),
no new version for a write that changes nothing, ``dryRun=All`` that changes nothing, ``omitempty`` zeros, RBAC by
verb, resource, subresource and name, paged lists. A small controller moves the status after ``settle`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from aiohttp import web

TOKEN = "api-server-token"
_KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}


@dataclass(frozen=True)
class Grant:
    """One rule of a Role: ``Grant({"get"}, {"deployments/scale"}, {"minting-worker"})``; no names means all."""

    verbs: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str] = frozenset()

    def allows(self, verb: str, resource: str, name: str) -> bool:
        """Does this rule allow the call?"""
        return verb in self.verbs and resource in self.resources and (not self.names or name in self.names)


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


@dataclass(frozen=True)
class Call:
    """One request as the server saw it."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None


class Refused(Exception):
    """An answer that is a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response({**body, "reason": reason, "code": code}, status=code, headers=headers)


class ApiServer:
    """The objects, who may do what, and what goes wrong."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.autoscalers: list[dict[str, Any]] = []
        self.grants: list[Grant] | None = None
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.token = TOKEN
        self.settle = 0.0
        self.url = ""
        self._version = 1000
        self._due: dict[tuple[str, str, str], float] = {}

    # What a test arranges and looks at.

    def add(self, resource: str, name: str, replicas: int, namespace: str = "production", **spec: Any) -> None:
        """A settled object with ``replicas`` ready replicas."""
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "minting:1.2"}]}}
        extra = {"serviceName": name} if resource == "statefulsets" else {}
        self.objects[resource, namespace, name] = {
            "apiVersion": "apps/v1",
            "kind": _KINDS[resource],
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{resource}-{name}",
                "creationTimestamp": "2026-11-01T00:00:00Z",
                "generation": 1,
                "resourceVersion": self._next(),
                "annotations": {"deployment.kubernetes.io/revision": "7"},
            },
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **extra, **spec},
            "status": {},
        }
        self._converge((resource, namespace, name))

    def autoscale(self, kind: str, name: str, namespace: str = "production") -> None:
        """A HorizontalPodAutoscaler that targets the object."""
        self.autoscalers.append(
            {
                "metadata": {"name": f"{name}-hpa", "namespace": namespace},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
                    "minReplicas": 1,
                    "maxReplicas": 10,
                },
                "status": {"desiredReplicas": 1, "conditions": []},
            }
        )

    def set_replicas(self, resource: str, name: str, replicas: int, namespace: str = "production") -> None:
        """Somebody else scales the object."""
        self._scale_to((resource, namespace, name), replicas)

    def replicas(self, resource: str, name: str, namespace: str = "production") -> int:
        """What the object wants now."""
        return int(self.objects[resource, namespace, name]["spec"]["replicas"])

    def writes(self) -> list[Call]:
        """The calls that could have changed something."""
        return [call for call in self.calls if call.verb not in ("get", "list")]

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

    # State.

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _scale_to(self, key: tuple[str, str, str], replicas: int) -> None:
        found = self.objects[key]
        if found["spec"]["replicas"] == replicas:
            return
        found["spec"]["replicas"] = replicas
        found["metadata"]["generation"] += 1
        found["metadata"]["resourceVersion"] = self._next()
        self._due[key] = asyncio.get_running_loop().time() + self.settle

    def _converge(self, key: tuple[str, str, str]) -> None:
        """What the controller and the kubelets would have done by now."""
        found = self.objects[key]
        n, paused = found["spec"]["replicas"], found["spec"].get("paused", False)
        status = {"observedGeneration": found["metadata"]["generation"]}
        counts = {"replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n}
        status |= {name: count for name, count in counts.items() if count}
        if paused:
            status["conditions"] = [{"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}]
        found["status"] = status

    def _find(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        key = (resource, namespace, name)
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{resource}.apps "{name}" not found')
        if key in self._due and asyncio.get_running_loop().time() >= self._due[key]:
            del self._due[key]
            self._converge(key)
            self.objects[key]["metadata"]["resourceVersion"] = self._next()
        return self.objects[key]

    def _scale(self, found: dict[str, Any]) -> dict[str, Any]:
        metadata = found["metadata"]
        kept = {name: metadata[name] for name in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion")}
        n = found["spec"]["replicas"]
        labels = found["spec"]["selector"]["matchLabels"]
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": kept,
            "spec": {"replicas": n} if n else {},
            "status": {
                "replicas": found["status"].get("replicas", 0),
                "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
            },
        }

    def _write_scale(self, key: tuple[str, str, str], call: Call) -> dict[str, Any]:
        found = self._find(*key)
        resource, _, name = key
        dry = call.query.get("dryRun")
        if dry not in (None, "All"):
            raise Refused(422, "Invalid", f'dryRun: Invalid value: "{dry}"')
        body = call.body if isinstance(call.body, dict) else {}
        if body.get("metadata", {}).get("name", name) != name:
            raise Refused(400, "BadRequest", "the name of the object does not match the name on the URL")
        version = body.get("metadata", {}).get("resourceVersion")
        if version not in (None, "", found["metadata"]["resourceVersion"]):
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {resource}.apps "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )
        replicas = body.get("spec", {}).get("replicas", 0 if call.verb == "update" else found["spec"]["replicas"])
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise Refused(400, "BadRequest", "json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas")
        if replicas < 0:
            raise Refused(422, "Invalid", f'Scale.autoscaling "{name}" is invalid: spec.replicas: must be >= 0')
        if dry == "All":
            pretend = copy.deepcopy(found)
            pretend["spec"]["replicas"] = replicas
            return self._scale(pretend)
        self._scale_to(key, replicas)
        return self._scale(self.objects[key])

    # HTTP.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call: who, may they, what goes wrong, and what they get."""
        try:
            if request.headers.get("Authorization", "").lower() != f"bearer {self.token}".lower():
                raise Refused(401, "Unauthorized", "Unauthorized")
            call = await self._call(request)
            self.calls.append(call)
            self._authorise(call)
            fault = self._fault(call)
            if fault is None:
                return web.json_response(self._carry_out(call))
            if fault.after:
                self._carry_out(call)
            return await self._fail(fault, request)
        except Refused as error:
            return _status(error.code, error.reason, str(error))

    async def _call(self, request: web.Request) -> Call:
        match = request.match_info
        resource = match.get("resource", "horizontalpodautoscalers")
        subresource = "/scale" if request.path.endswith("/scale") else ""
        verbs = {"GET": "get" if "name" in match else "list", "PUT": "update", "PATCH": "patch"}
        body = None
        if request.method in ("PUT", "PATCH"):
            wanted = "application/merge-patch+json" if request.method == "PATCH" else "application/json"
            if request.content_type != wanted:
                raise Refused(
                    415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {wanted}"
                )
            try:
                body = json.loads(await request.read())
            except ValueError:
                raise Refused(400, "BadRequest", "the request body is not JSON") from None
        return Call(
            verb=verbs.get(request.method, request.method.lower()),
            resource=resource + subresource,
            namespace=match["namespace"],
            name=match.get("name", ""),
            query=dict(request.query),
            body=body,
        )

    def _authorise(self, call: Call) -> None:
        if self.grants is None or any(g.allows(call.verb, call.resource, call.name) for g in self.grants):
            return
        group = "autoscaling" if call.resource.startswith("horizontal") else "apps"
        raise Refused(
            403,
            "Forbidden",
            f'{call.resource} "{call.name}" is forbidden: User "remediator" cannot {call.verb} resource '
            f'"{call.resource}" in API group "{group}" in the namespace "{call.namespace}"',
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

    def _carry_out(self, call: Call) -> dict[str, Any]:
        if call.resource == "horizontalpodautoscalers":
            return self._list(call)
        resource, _, subresource = call.resource.partition("/")
        if resource not in _KINDS:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        key = (resource, call.namespace, call.name)
        if not subresource:
            return self._find(*key)
        return self._scale(self._find(*key)) if call.verb == "get" else self._write_scale(key, call)

    def _list(self, call: Call) -> dict[str, Any]:
        found = [each for each in self.autoscalers if each["metadata"]["namespace"] == call.namespace]
        start, limit = int(call.query.get("continue", "0")), int(call.query.get("limit", "500"))
        metadata = {"resourceVersion": str(self._version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return {
            "kind": "HorizontalPodAutoscalerList",
            "apiVersion": "autoscaling/v2",
            "metadata": metadata,
            "items": found[start : start + limit],
        }


@contextlib.asynccontextmanager
async def api_server(context: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    """A running API server on a free loopback port, with TLS if there is a ``context``."""
    it = ApiServer()
    app = web.Application()
    apps = "/apis/apps/v1/namespaces/{namespace}/{resource}/{name}"
    app.router.add_route("*", apps, it.handle)
    app.router.add_route("*", apps + "/scale", it.handle)
    app.router.add_route("GET", "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers", it.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    it.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield it
    finally:
        await runner.cleanup()
