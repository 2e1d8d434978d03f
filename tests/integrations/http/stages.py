"""The stages of http actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from remediator.integrations.http.delete import Delete
from remediator.integrations.http.patch import Patch
from remediator.integrations.http.post import Post
from remediator.integrations.http.put import Put
from remediator.integrations.http.target import HttpTarget
from tests.integrations.arrangements import Stage
from tests.integrations.http.queue import queue_service
from tests.integrations.support import wire

_DOC = "/admin/doc/limits"


@asynccontextmanager
async def http_post(directory: Path) -> AsyncIterator[Stage]:
    """A POST to a server that counts requests."""
    permit = {"actions": ["http.post"], "paths": ["/admin/*"]}
    async with wire() as it:
        target = HttpTarget(base_url=it.url, permit=permit)
        action = Post.model_validate({"path": "/admin/workers", "json": {"count": 5}})
        yield Stage(action=action, target=target, effects=lambda: len(it.received), converges=False)
        await target.close()


@asynccontextmanager
async def _document(action: Any, converges: bool) -> AsyncIterator[Stage]:
    async with queue_service() as queue:
        queue.documents[_DOC] = {"rate": 10, "burst": 20}
        target = queue.target()
        yield Stage(action=action, target=target, effects=lambda: len(queue.sent), converges=converges)
        await target.close()


@asynccontextmanager
async def http_put(directory: Path) -> AsyncIterator[Stage]:
    """A document that is replaced, and can be read."""
    check = {"path": _DOC, "json_path": "rate", "equals": 5}
    async with _document(Put.model_validate({"path": _DOC, "json": {"rate": 5}, "check": check}), True) as stage:
        yield stage


@asynccontextmanager
async def http_patch(directory: Path) -> AsyncIterator[Stage]:
    """A part of a document that is changed, blindly."""
    async with _document(Patch.model_validate({"path": _DOC, "json": {"rate": 5}}), False) as stage:
        yield stage


@asynccontextmanager
async def http_delete(directory: Path) -> AsyncIterator[Stage]:
    """A document that is removed, and is then not found."""
    async with _document(Delete.model_validate({"path": _DOC, "check": {"path": _DOC, "status": 404}}), True) as stage:
        yield stage


STAGES = {"http.delete": http_delete, "http.patch": http_patch, "http.post": http_post, "http.put": http_put}
