"""What the stand-in answers to one call: reading, listing, patching, making and deleting, and the subresources."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from tests.integrations.kubernetes.standin.access import access_review, rules_review
from tests.integrations.kubernetes.standin.patches import PatchFailed, json_patch, merge, strategic
from tests.integrations.kubernetes.standin.validation import Invalid, tidy, validate

if TYPE_CHECKING:
    from tests.integrations.kubernetes.apiserver import ApiServer

_SERVED = {
    ("", "v1"): {"pods", "services", "nodes", "events"},
    ("apps", "v1"): {"deployments", "statefulsets", "replicasets"},
    ("autoscaling", "v1"): {"horizontalpodautoscalers"},
    ("autoscaling", "v2"): {"horizontalpodautoscalers"},
    ("batch", "v1"): {"jobs", "cronjobs"},
    ("keda.sh", "v1alpha1"): {"scaledobjects"},
    ("authorization.k8s.io", "v1"): {"selfsubjectaccessreviews", "selfsubjectrulesreviews"},
}
_PATCHES = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic,
    "application/json-patch+json": json_patch,
}
_SUBRESOURCES = {"deployments": {"scale"}, "statefulsets": {"scale"}, "pods": {"log", "eviction", "exec"}}


@dataclass(frozen=True)
class Call:
    """One request as the server saw it."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    group: str = ""
    version: str = "v1"
    content_type: str = ""


class Refused(Exception):
    """An answer that is a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def _unknown() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource")


class Answers:
    """The face of a store."""

    def __init__(self, store: ApiServer) -> None:
        self._store = store
        self.logs: dict[tuple[str, str], str] = {}
        """What containers have written: (pod, container) to text; before the last restart it is ``pod/previous``."""
        self.budgets: list[dict[str, str]] = []
        """Labels of pods whose disruption budget allows no more disruptions."""
        self.programs: list[tuple[str, str, list[str]]] = []
        """What was run in pods: pod, container, argument list."""
        self.exit_code = 0
        self.program_hangs = False

    async def call_of(self, request: web.Request) -> Call:
        """The request in RBAC's words. Raises Refused."""
        parts = request.path.strip("/").split("/")
        core = parts[0] == "api"
        group, version, rest = ("", parts[1], parts[2:]) if core else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[:1] == ["namespaces"]:
            namespace, rest = rest[1], rest[2:]
        if not rest or rest[0] not in _SERVED.get((group, version), ()):
            raise _unknown()
        resource, name, subresource = (*rest, "", "")[:3]
        if subresource and subresource not in _SUBRESOURCES.get(resource, ()):
            raise _unknown()
        verbs = {"GET": "get" if name else "list", "PUT": "update", "PATCH": "patch", "POST": "create"}
        verb = "create" if subresource == "exec" else verbs.get(request.method, request.method.lower())
        body = await self._body(request) if request.method in ("PUT", "PATCH", "POST", "DELETE") else None
        if resource in ("jobs",) and verb == "create":
            name = ""
        return Call(
            verb=verb,
            resource=f"{resource}/{subresource}" if subresource else resource,
            namespace=namespace,
            name=name,
            query=dict(request.query),
            body=body,
            group=group,
            version=version,
            content_type=request.content_type,
        )

    async def _body(self, request: web.Request) -> Any:
        wanted = set(_PATCHES) if request.method == "PATCH" else {"application/json"}
        if request.content_type not in wanted:
            raise Refused(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {sorted(wanted)}"
            )
        try:
            return json.loads(await request.read() or b"null")
        except ValueError:
            raise Refused(400, "BadRequest", "the request body is not JSON") from None

    async def answer(self, call: Call, request: web.Request) -> web.StreamResponse:
        """What the call gives. Raises Refused."""
        resource, _, subresource = call.resource.partition("/")
        if subresource == "exec":
            return await self._exec(call, request)
        if subresource == "log":
            return web.Response(text=self._log(call))
        whole: dict[str, Callable[[Call], dict[str, Any]]] = {
            "create": self._create,
            "delete": lambda call: self._delete(call, self._find(call)),
            "get": self._find,
            "list": self._list,
            "patch": lambda call: self._patch(call, self._find(call)),
        }
        parts = {"scale": self._scale, "eviction": self._evict}
        made = self._review if resource.startswith("selfsubject") else parts.get(subresource) or whole[call.verb]
        return web.json_response(made(call), status=201 if call.verb == "create" else 200)

    def _find(self, call: Call) -> dict[str, Any]:
        resource = call.resource.partition("/")[0]
        found = self._store.objects.get((resource, call.namespace, call.name))
        if found is None:
            group = f".{call.group}" if call.group else ""
            raise Refused(404, "NotFound", f'{resource}{group} "{call.name}" not found')
        return found

    # Writing.

    def _check_dry(self, call: Call) -> bool:
        dry = call.query.get("dryRun")
        if dry not in (None, "All"):
            raise Refused(422, "Invalid", f'dryRun: Invalid value: "{dry}"')
        return dry == "All"

    def _check_version(self, call: Call, found: dict[str, Any], version: str | None) -> None:
        if version not in (None, "", found["metadata"]["resourceVersion"]):
            group = f".{call.group}" if call.group else ""
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {call.resource}{group} "{call.name}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )

    def _patched(self, call: Call, found: dict[str, Any]) -> dict[str, Any]:
        try:
            new: dict[str, Any] = _PATCHES[call.content_type](copy.deepcopy(found), call.body)
        except PatchFailed as error:
            message = f"the server rejected our request due to an error in our request: {error}"
            raise Refused(422, "Invalid", message) from None
        self._check_version(call, found, new["metadata"].get("resourceVersion"))
        if new["metadata"].get("name") != call.name:
            raise Refused(400, "BadRequest", "the name of the object does not match the name on the URL")
        return new

    def _patch(self, call: Call, found: dict[str, Any]) -> dict[str, Any]:
        dry, new = self._check_dry(call), self._patched(call, found)
        tidy(new)
        new["status"] = found.get("status", {})  # Only the status subresource writes it.
        try:
            validate(call.resource, new, found)
        except Invalid as error:
            raise Refused(422, "Invalid", f'{call.resource} "{call.name}" is invalid: {error}') from None
        if dry:
            return new
        return self._store.write((call.resource, call.namespace, call.name), new)

    def _create(self, call: Call) -> dict[str, Any]:
        new = copy.deepcopy(call.body)
        key = (call.resource, call.namespace, new["metadata"]["name"])
        if key in self._store.objects:
            raise Refused(409, "AlreadyExists", f'{call.resource} "{key[2]}" already exists')
        if call.namespace:
            new["metadata"]["namespace"] = call.namespace
        tidy(new)
        if self._check_dry(call):
            return dict(new)
        return self._store.insert(call.resource, new | {"status": {}})

    def _delete(self, call: Call, found: dict[str, Any]) -> dict[str, Any]:
        wanted = ((call.body or {}).get("preconditions") or {}).get("uid")
        if wanted not in (None, found["metadata"]["uid"]):
            raise Refused(
                409,
                "Conflict",
                f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found['metadata']['uid']}",
            )
        del self._store.objects[call.resource.partition("/")[0], call.namespace, call.name]
        for owner in found["metadata"].get("ownerReferences", ()):
            self._replace(owner["uid"])
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _replace(self, uid: str) -> None:
        """The controller of a pod that is gone makes another one."""
        for (resource, namespace, _), each in list(self._store.objects.items()):
            if each["metadata"]["uid"] != uid:
                continue
            owners = [owner["name"] for owner in each["metadata"].get("ownerReferences", ())]
            name = owners[0] if resource == "replicasets" else each["metadata"]["name"]
            self._store.touch(("deployments" if resource == "replicasets" else resource, namespace, name))

    def _evict(self, call: Call) -> dict[str, Any]:
        found = self._find(call)
        labels = found["metadata"].get("labels", {})
        if any(budget.items() <= labels.items() for budget in self.budgets):
            raise Refused(
                429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget."
            )
        options = (call.body or {}).get("deleteOptions") or {}
        return self._delete(Call(**{**vars(call), "body": options}), found)

    def _scale(self, call: Call) -> dict[str, Any]:
        found = self._find(call)
        if call.verb == "get":
            return self._scale_of(found)
        dry = self._check_dry(call)
        body = call.body if isinstance(call.body, dict) else {}
        if body.get("metadata", {}).get("name", call.name) != call.name:
            raise Refused(400, "BadRequest", "the name of the object does not match the name on the URL")
        self._check_version(call, found, body.get("metadata", {}).get("resourceVersion"))
        replicas = body.get("spec", {}).get("replicas", 0 if call.verb == "update" else found["spec"]["replicas"])
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise Refused(400, "BadRequest", "json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas")
        if replicas < 0:
            raise Refused(422, "Invalid", f'Scale.autoscaling "{call.name}" is invalid: spec.replicas: must be >= 0')
        if dry:
            pretend = copy.deepcopy(found)
            pretend["spec"]["replicas"] = replicas
            return self._scale_of(pretend)
        key = (call.resource.partition("/")[0], call.namespace, call.name)
        self._store.scale_to(key, replicas)
        return self._scale_of(self._store.objects[key])

    def _scale_of(self, found: dict[str, Any]) -> dict[str, Any]:
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

    # Reading.

    def _list(self, call: Call) -> dict[str, Any]:
        found = [
            each
            for (resource, namespace, _), each in self._store.objects.items()
            if resource == call.resource and call.namespace in ("", namespace) and _selected(each, call.query)
        ]
        start, limit = int(call.query.get("continue", "0")), int(call.query.get("limit", "500"))
        metadata = {"resourceVersion": self._store.version}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": found[start : start + limit]}

    def _log(self, call: Call) -> str:
        found = self._find(call)
        names = [each["name"] for each in found["spec"]["containers"]]
        container = call.query.get("container") or names[0]
        if container not in names:
            raise Refused(400, "BadRequest", f"container {container} is not valid for pod {call.name}")
        previous = call.query.get("previous") == "true"
        text = self.logs.get((f"{call.name}/previous" if previous else call.name, container))
        if previous and text is None:
            message = f'previous terminated container "{container}" in pod "{call.name}" not found'
            raise Refused(400, "BadRequest", message)
        lines = (text or "").splitlines(keepends=True)[-int(call.query.get("tailLines", "1000000")) :]
        return "".join(lines).encode()[: int(call.query.get("limitBytes", "100000000"))].decode(errors="replace")

    def _review(self, call: Call) -> dict[str, Any]:
        review = access_review if call.resource == "selfsubjectaccessreviews" else rules_review
        return {**call.body, "status": review(self._store.grants, call.body["spec"])}

    async def _exec(self, call: Call, request: web.Request) -> web.StreamResponse:
        self._find(call)
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        argv = request.query.getall("command")
        self.programs.append((call.name, call.query.get("container", ""), argv))
        if self.program_hangs:
            async for message in socket:
                assert message.type is WSMsgType.BINARY
            return socket
        await socket.send_bytes(b"\x01" + " ".join(argv).encode())
        await socket.send_bytes(b"\x02a warning")
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if self.exit_code:
            causes = [{"reason": "ExitCode", "message": str(self.exit_code)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
        return socket


def _selected(found: dict[str, Any], query: dict[str, str]) -> bool:
    labels = found["metadata"].get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, _, value = part.partition("=")
        if labels.get(name) != value:
            return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        at: Any = found
        for step in path.split("."):
            at = at.get(step, "") if isinstance(at, dict) else ""
        if at != value:
            return False
    return True


