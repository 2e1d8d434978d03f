"""A service with a queue that can be paused, as tests need it: it keeps its state and every request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from remediator.integrations.http.target import HttpTarget
from tests.integrations.support import Received, Wire, reply, wire

CHECK = {"path": "/admin/queue/stats", "json_path": "paused", "equals": True}
PERMIT = {
    "actions": ["http.get", "http.post", "http.put", "http.patch", "http.delete"],
    "paths": ["/admin/*"],
}


@dataclass
class Queue:
    """``POST /admin/queue/pause`` and ``…/resume``, ``GET /admin/queue/stats``, and documents under ``/admin/doc/``."""

    paused: Any = False
    documents: dict[str, Any] = field(default_factory=dict)
    deaf: bool = False
    """Answers that it did, and did not."""
    it: Wire = field(default_factory=Wire)

    def answer(self, request: Received) -> bytes:
        """What the service says."""
        method, path, _ = request.line.decode().split(" ")
        if path == "/admin/queue/stats":
            return reply(body=json.dumps({"paused": self.paused, "waiting": 7}).encode())
        if path.startswith("/admin/queue/"):
            self.paused = self.paused if self.deaf else path.endswith("/pause")
            return reply()
        if method == "GET":
            found = self.documents.get(path)
            return reply(404) if found is None else reply(body=json.dumps(found).encode())
        self._change(method, path, json.loads(request.body or b"null"))
        return reply()

    def _change(self, method: str, path: str, body: Any) -> None:
        if method == "DELETE":
            self.documents.pop(path, None)
        elif method == "PATCH":
            self.documents[path] = {**self.documents.get(path, {}), **body}
        else:
            self.documents[path] = body

    @property
    def sent(self) -> list[bytes]:
        """The first lines of what could change something."""
        return [request.line for request in self.it.received if not request.line.startswith(b"GET")]

    def target(self, **settings: Any) -> HttpTarget:
        """The service as a target that permits all of it."""
        return HttpTarget.model_validate({"base_url": self.it.url, "timeout": "1s", "permit": PERMIT, **settings})


@asynccontextmanager
async def queue_service() -> AsyncIterator[Queue]:
    """A running one."""
    queue = Queue()
    async with wire(queue.answer) as it:
        queue.it = it
        yield queue
