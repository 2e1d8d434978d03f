"""One small stage per action for the contract suite: a real system, the action, and how often it took effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.action import Action
from remediator.integrations.command.run import Run
from remediator.integrations.command.target import CommandTarget
from remediator.integrations.http.post import Post
from remediator.integrations.http.target import HttpTarget
from remediator.integrations.kubernetes.scale import Scale
from remediator.integrations.kubernetes.target import KubernetesTarget
from remediator.target import Target
from tests.integrations.kubernetes.apiserver import api_server
from tests.integrations.support import wire


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An action before a real system. ``converges``: once done, its diff is empty."""

    action: Action[Any]
    target: Target
    effects: Callable[[], int]
    converges: bool


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
async def kubernetes_scale(directory: Path) -> AsyncIterator[Stage]:
    """A deployment of three replicas that is to have five."""
    permit = {"actions": ["kubernetes.scale"], "namespaces": ["production"], "deployments": ["minting-*"]}
    async with api_server() as api:
        api.add("deployments", "minting-worker", 3)
        target = KubernetesTarget(kubeconfig=api.kubeconfig(directory), permit=permit)
        action = Scale(namespace="production", deployment="minting-worker", at_least=5, max=10)
        yield Stage(action=action, target=target, effects=lambda: len(api.writes()), converges=True)
        await target.close()


@asynccontextmanager
async def command_run(directory: Path) -> AsyncIterator[Stage]:
    """A command that adds a line to a file."""
    program = {"argv": ["/bin/sh", "-c", 'echo "$1" >> done', "sh", "{word}"], "parameters": {"word": {}}}
    target = CommandTarget.model_validate(
        {
            "directory": str(directory),
            "commands": {"note": program},
            "permit": {"actions": ["command.run"], "commands": ["note"]},
        }
    )

    def effects() -> int:
        done = directory / "done"
        return len(done.read_text().splitlines()) if done.exists() else 0

    action = Run(command="note", parameters={"word": "hello"})
    yield Stage(action=action, target=target, effects=effects, converges=False)
    await target.close()


STAGES: dict[str, Callable[[Path], AbstractAsyncContextManager[Stage]]] = {
    "command.run": command_run,
    "http.post": http_post,
    "kubernetes.scale": kubernetes_scale,
}
