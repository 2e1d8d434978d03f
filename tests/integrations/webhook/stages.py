"""The stages of webhook actions for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remediator.integrations.webhook.post import Post
from remediator.integrations.webhook.target import WebhookTarget
from tests.integrations.arrangements import Stage
from tests.integrations.support import wire


@asynccontextmanager
async def webhook_post(directory: Path) -> AsyncIterator[Stage]:
    """News to a server that counts requests."""
    permit = {"actions": ["webhook.post"], "paths": ["/hooks/*"]}
    async with wire() as it:
        target = WebhookTarget(base_url=it.url, permit=permit)
        action = Post.model_validate({"path": "/hooks/oncall", "json": {"title": "queue full"}})
        yield Stage(action=action, target=target, effects=lambda: len(it.received), converges=False)
        await target.close()


STAGES = {"webhook.post": webhook_post}
