"""The verbs of the Kubernetes API that actions and probes use, each one request with one meaning.

This module imports the client and is therefore itself imported only when a target is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from remediator.errors import PermanentError
from remediator.integrations.kubernetes._connection import Check, Connection
from remediator.integrations.kubernetes._exec import Ended, execute
from remediator.integrations.kubernetes._failure import Request
from remediator.integrations.kubernetes._shape import Page, Reviewed, Shape
from remediator.integrations.kubernetes._thing import Kind, Thing, path_of, resource_of

S = TypeVar("S", bound=Shape)
_PAGE = 250
_PAGES = 40
MANAGER = "remediator"
"""The field manager that managedFields of changed objects show."""
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def _query(values: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def _sub(resource: str, subresource: str) -> str:
    return f"{resource}/{subresource}" if subresource else resource


class Cluster(Connection):
    """The objects of one cluster. Every method raises TemporaryError, PermanentError; those that write, Unanswered."""

    async def get(self, thing: Thing, shape: type[S], *, subresource: str = "", base: str = "") -> S:
        """The object, or one of its subresources."""
        request = Request(
            verb="get", resource=_sub(thing.resource, subresource), namespace=thing.namespace, name=thing.name
        )
        path = f"{path_of(thing.kind, thing.namespace, base)}/{thing.name}"
        return await self.call(request, "GET", _sub(path, subresource), shape.model_validate_json)

    async def list_all(
        self, kind: Kind, namespace: str, shape: type[S], *, labels: str = "", fields: str = "", base: str = ""
    ) -> list[S]:
        """All objects of a namespace that the selectors choose, page by page; at most 10 000."""
        request = Request(verb="list", resource=resource_of(kind), namespace=namespace)
        found: list[S] = []
        more = ""
        for _ in range(_PAGES):
            query = _query({"labelSelector": labels, "fieldSelector": fields, "limit": _PAGE, "continue": more})

            def read(data: bytes) -> tuple[list[S], str]:
                page = Page.model_validate_json(data)
                return [shape.model_validate(item) for item in page.items], page.metadata.more

            items, more = await self.call(request, "GET", path_of(kind, namespace, base) + query, read)
            found += items
            if not more:
                return found
        raise PermanentError(f"there are too many {resource_of(kind)} to look through", reason="too_many")

    async def patch(
        self,
        thing: Thing,
        body: Any,
        shape: type[S],
        *,
        subresource: str = "",
        content_type: str = MERGE,
        check: Check | None = None,
        dry: bool = False,
    ) -> S:
        """Change parts of the object; with a resourceVersion in ``body`` only if it still has that one.

        A patch and never a replacement: the HTTP client repeats a PUT by itself when a kept connection turns out to
        be closed, and the answer to the second one would hide what the first one did. Reason ``conflict``: it has
        another version.
        """
        request = Request(
            verb="patch",
            resource=_sub(thing.resource, subresource),
            namespace=thing.namespace,
            name=thing.name,
            dry=dry,
        )
        query = _query({"fieldManager": MANAGER, "dryRun": "All" if dry else ""})
        return await self.call(
            request,
            "PATCH",
            _sub(thing.path, subresource) + query,
            shape.model_validate_json,
            body=body,
            content_type=content_type,
            check=check,
        )

    async def create(
        self, thing: Thing, body: Mapping[str, Any], *, subresource: str = "", check: Check | None = None
    ) -> None:
        """Make the object, or with ``subresource`` ask for something to be done with it."""
        path = _sub(thing.path, subresource) if subresource else path_of(thing.kind, thing.namespace)
        request = Request(
            verb="create", resource=_sub(thing.resource, subresource), namespace=thing.namespace, name=thing.name
        )
        await self.call(request, "POST", path + _query({"fieldManager": MANAGER}), json.loads, body=body, check=check)

    async def delete(self, thing: Thing, body: Mapping[str, Any], *, check: Check | None = None) -> None:
        """Delete the object under the preconditions in ``body``."""
        request = Request(verb="delete", resource=thing.resource, namespace=thing.namespace, name=thing.name)
        await self.call(request, "DELETE", thing.path, json.loads, body=body, check=check)

    async def log(self, pod: Thing, *, container: str, tail: int, since: int, limit: int, previous: bool) -> str:
        """The end of a container's log; at most ``limit`` bytes leave the API server."""
        request = Request(verb="get", resource="pods/log", namespace=pod.namespace, name=pod.name)
        query = _query(
            {
                "container": container,
                "tailLines": tail,
                "sinceSeconds": since or None,
                "limitBytes": limit,
                "previous": "true" if previous else None,
            }
        )
        return await self.call(
            request, "GET", f"{pod.path}/log{query}", lambda data: data.decode("utf-8", errors="replace")
        )

    async def review(self, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the API server about the identity that asks: the status of a ``kind`` of review.

        Every identity may ask; it changes nothing.
        """
        resource = f"{kind.lower()}s"
        request = Request(verb="create", resource=resource, namespace=str(spec.get("namespace", "")), dry=True)
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {}, "spec": spec}
        path = f"/apis/authorization.k8s.io/v1/{resource}"
        return (await self.call(request, "POST", path, Reviewed.model_validate_json, body=body)).status

    async def execute(
        self, pod: Thing, container: str, argv: list[str], limit: int, seconds: float, check: Check
    ) -> Ended:
        """Run a program inside a container to its end."""
        request = Request(verb="create", resource="pods/exec", namespace=pod.namespace, name=pod.name)
        streams = [("container", container), ("stdout", "1"), ("stderr", "1")]
        query = urlencode([*(("command", each) for each in argv), *streams])
        session, url, headers, proxy = await self.credentials(f"{pod.path}/exec?{query}")

        async def send() -> Ended:
            return await execute(session, url, headers, proxy, limit=limit, seconds=seconds)

        return await self.guarded(request, send, check)
